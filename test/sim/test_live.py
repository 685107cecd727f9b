"""The world in real time: paced, stamped consistently, ended in order, and loud when it breaks."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.live import MAX_DEBT_S, CameraMoment, LiveSettings, LiveSimulation, example_settings
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.world import HeadMotion, JointStates

pytest.importorskip("mujoco")

LONG_S = 120.0


class Listener:
    """Collects what a simulation sends."""

    def __init__(self) -> None:
        self.frames: queue.Queue[CameraMoment] = queue.Queue()
        self.joints: queue.Queue[tuple[int, JointStates]] = queue.Queue()
        self.failures: queue.Queue[BaseException] = queue.Queue()


@contextmanager
def running(
    settings: LiveSettings, on_frame: Callable[[CameraMoment], None] | None = None
) -> Iterator[tuple[LiveSimulation, Listener]]:
    listener = Listener()
    simulation = LiveSimulation(
        settings,
        now_ns=lambda time_s: round(time_s * 1e9),
        on_frame=on_frame or listener.frames.put,
        on_joints=lambda stamp_ns, states: listener.joints.put((stamp_ns, states)),
        on_failure=listener.failures.put,
    )
    simulation.start()
    try:
        yield simulation, listener
    finally:
        assert simulation.stop(LONG_S)


def test_frames_and_joints_come_with_rising_stamps_of_their_own_moment() -> None:
    with running(example_settings()) as (_, listener):
        frames = [listener.frames.get(timeout=LONG_S) for _ in range(5)]
        joints = [listener.joints.get(timeout=LONG_S) for _ in range(5)]
    assert all(a.stamp_ns < b.stamp_ns for a, b in itertools.pairwise(frames))
    assert all(a[0] < b[0] for a, b in itertools.pairwise(joints))
    assert frames[0].stamp_ns > 0 and frames[0].frame.image.shape == (120, 160, 3)
    for stamp_ns, states in joints:
        assert stamp_ns == round(states.time_s * 1e9)
    for moment in frames:
        assert moment.stamp_ns == round(moment.time_s * 1e9)


def test_no_moment_is_drawn_twice_while_physics_gets_no_share_of_the_machine() -> None:
    asked, stepped, go_on = threading.Semaphore(0), threading.Event(), threading.Event()
    frames: queue.Queue[CameraMoment] = queue.Queue()

    def now_ns(time_s: float) -> int:
        if threading.current_thread().name == "render":
            asked.release()
        return round(time_s * 1e9)

    def stall(time_s: float) -> None:
        stepped.set()
        assert go_on.wait(LONG_S)

    simulation = LiveSimulation(
        example_settings(), now_ns=now_ns, on_frame=frames.put, on_joints=lambda stamp_ns, states: None, on_step=stall,
        on_failure=lambda error: None,
    )  # fmt: skip
    simulation.start()
    try:
        assert stepped.wait(LONG_S)
        for _ in range(10):  # looks of the rendering thread, all but the first two of them at the same moment
            assert asked.acquire(timeout=LONG_S)
        seen = [frames.get(timeout=LONG_S)]
        go_on.set()
        while len(seen) < 4:
            seen.append(frames.get(timeout=LONG_S))
    finally:
        go_on.set()
        assert simulation.stop(LONG_S)
    assert all(a.stamp_ns < b.stamp_ns for a, b in itertools.pairwise(seen))


def test_physics_keeps_to_the_wall_clock() -> None:
    with running(example_settings(rate_hz=1.0)) as (simulation, listener):
        listener.joints.get(timeout=LONG_S)
        start_s, simulated_s = time.monotonic(), simulation.world.time_s
        while simulation.world.time_s < simulated_s + 1.0:
            listener.joints.get(timeout=LONG_S)
        # Never faster than real time, but for what it may catch up with after the machine was busy with something else.
        assert time.monotonic() - start_s > 1.0 - MAX_DEBT_S - 0.1


def test_scenes_change_at_their_period_and_follow_the_seed() -> None:
    settings = example_settings(scene_period_s=0.3, seed=5)
    with running(settings) as (_, listener):
        seen: dict[int, CameraMoment] = {}
        while len(seen) < 3:
            moment = listener.frames.get(timeout=LONG_S)
            seen[int(moment.time_s / 0.3)] = moment
    for index, moment in seen.items():
        expected = {(o.colour, o.shape) for o in settings.scene(index).objects}
        assert {(o.colour, o.shape) for o in moment.frame.objects} <= expected
    assert settings.scene(0) != settings.scene(1) != settings.scene(2)


def test_trajectory_moves_the_joint() -> None:
    with running(example_settings()) as (simulation, listener):
        simulation.set_trajectory(Trajectory.checked(["head_pan"], [0.1], [[0.5]]))
        deadline_s = time.monotonic() + LONG_S
        while True:
            _, states = listener.joints.get(timeout=LONG_S)
            if abs(states.positions[states.names.index("head_pan")] - 0.5) < 0.05:
                break
            assert time.monotonic() < deadline_s


def test_head_motion_moves_the_picture() -> None:
    with running(example_settings(head_motion=HeadMotion(0.3, 0.0, 1.0))) as (_, listener):
        frames = [listener.frames.get(timeout=LONG_S).frame.image for _ in range(6)]
    assert any(not np.array_equal(frames[0], image) for image in frames[1:])


def test_an_error_in_a_listener_ends_the_simulation_and_is_told() -> None:
    called = threading.Event()

    def broken(moment: CameraMoment) -> None:
        called.set()
        raise RuntimeError("nobody takes frames here")

    with running(example_settings(), broken) as (_, listener):
        assert called.wait(LONG_S)
        assert "nobody takes frames" in str(listener.failures.get(timeout=LONG_S))


def test_renderer_that_cannot_start_raises_at_start() -> None:
    simulation = LiveSimulation(
        example_settings(width=8), now_ns=lambda _: 0, on_frame=print, on_joints=print, on_failure=print
    )
    with pytest.raises(SimulationError, match="width"):
        simulation.start()
    assert simulation.stop()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rate_hz": 0.0}, "rate_hz"),
        ({"rate_hz": float("nan")}, "rate_hz"),
        ({"joint_rate_hz": 1e6}, "joint_rate_hz"),
        ({"scene_period_s": -1.0}, "scene_period_s"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], word: str) -> None:
    with pytest.raises(SimulationError, match=word):
        example_settings(**changes)
