"""The world in steps: equal calls give equal frames, and what falls due falls due on time."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.live import CameraMoment, LiveSettings, example_settings
from exaone_ros.sim.stage import Place
from exaone_ros.sim.stepped import SteppedSimulation
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.world import HeadMotion

pytest.importorskip("mujoco")

SETTINGS = example_settings(rate_hz=30.0, seed=4, head_motion=HeadMotion(0.3, 0.1, 2.0))


class Stepped:
    """A stepped simulation and all that it handed over."""

    def __init__(self, settings: LiveSettings = SETTINGS) -> None:
        self.events: list[tuple[str, Any]] = []
        self.simulation = SteppedSimulation(
            settings,
            on_frame=lambda moment: self.events.append(("frame", moment)),
            on_joints=lambda stamp_ns, states: self.events.append(("joints", stamp_ns)),
            on_step=lambda time_s: self.events.append(("time", round(time_s * 1e9))),
            on_objects=lambda stamp_ns, objects: self.events.append(("objects", stamp_ns)),
        )
        self.simulation.start()

    def __enter__(self) -> Stepped:
        return self

    def __exit__(self, *_: object) -> None:
        self.simulation.stop()

    def of(self, kind: str) -> list[Any]:
        return [value for name, value in self.events if name == kind]


def digest(moment: CameraMoment) -> str:
    return hashlib.sha256(moment.frame.image.tobytes()).hexdigest()


def drive(stepped: Stepped, pieces: list[int]) -> list[tuple[int, str]]:
    """A short story: the same for all who tell it, but for how its time is cut."""
    stepped.simulation.set_trajectory(Trajectory.checked(["right_elbow"], [0.1], [[-1.4]]))
    for steps in pieces:
        stepped.simulation.advance(steps)
    stepped.simulation.world.place("red ball", Place(0.45, 0.3))
    stepped.simulation.advance(50)
    return [(moment.stamp_ns, digest(moment)) for moment in stepped.of("frame")]


def test_identical_frames_for_identical_seeds() -> None:
    with Stepped() as first, Stepped() as second:
        told = drive(first, [100])
        assert told == drive(second, [1, 32, 7, 60])
        first.events.clear()
        first.simulation.reset()
        assert told == drive(first, [50, 50])  # after a reset once more
    assert len(told) == 9 and len({picture for _, picture in told}) == 9
    with Stepped(example_settings(rate_hz=30.0, seed=5)) as other:
        other.simulation.advance(20)
        assert digest(other.of("frame")[0]) != told[0][1]


def test_everything_falls_due_on_time_and_in_order() -> None:
    with Stepped() as stepped:
        advance = stepped.simulation.advance(250)
        assert (advance.stamp_ns, advance.images) == (502_000_000, 15)
        stamps = [moment.stamp_ns for moment in stepped.of("frame")]
        assert stamps == stepped.of("objects")
        for number, stamp_ns in enumerate(stamps, start=1):
            # The first step of 2 ms at or after it, counted from the world's first step.
            assert 0 <= stamp_ns - 2e6 - number / 30 * 1e9 < 2_000_000
        assert stepped.of("joints") == [2_000_000 + 20_000_000 * number for number in range(1, 26)]
        times = stepped.of("time")
        assert times == sorted(set(times)) and set(stamps) <= set(times)
        for index, (kind, value) in enumerate(stepped.events):
            if kind == "frame":  # who has the image has its time already
                assert ("time", value.stamp_ns) in stepped.events[:index]


def test_scenes_change_at_their_period() -> None:
    settings = example_settings(rate_hz=10.0, scene_period_s=0.2, seed=6)
    with Stepped(settings) as stepped:
        stepped.simulation.advance(99)
        assert stepped.simulation.world.scene == settings.scene(0)
        stepped.simulation.advance(1)
        assert stepped.simulation.world.scene == settings.scene(1)


def test_without_a_camera_there_are_poses_and_no_images() -> None:
    with Stepped(example_settings(rate_hz=10.0, camera=False)) as stepped:
        assert stepped.simulation.advance(100).images == 0
        assert len(stepped.of("objects")) == 2 and not stepped.of("frame")


@pytest.mark.parametrize("steps", [0, -1, 100_001])
def test_absurd_steps_are_refused(steps: int) -> None:
    with Stepped(example_settings(camera=False)) as stepped, pytest.raises(SimulationError, match="steps"):
        stepped.simulation.advance(steps)
