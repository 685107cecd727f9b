"""One goal from start to end: what starts it, what ends it and with which name, what is published meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from action.fakes import START, CallableHead, Clock, Robot
from numpy.typing import NDArray

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.gate import Gate, Stop
from exaone_ros.action.goal import RunnerLimits
from exaone_ros.action.heads.scripted import HoldHead, ReplayHead, SineHead
from exaone_ros.action.observation import Observation
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.runner import PolicyRunner
from exaone_ros.action.spec import ActionSpec
from exaone_ros.errors import ActionError

SPEC = ActionSpec.make_example()


@pytest.fixture
def made() -> Iterator[list[Robot]]:
    """Robots to shut down after the test."""
    robots: list[Robot] = []
    yield robots
    for robot in robots:
        robot.runner.close()


def ready(made: list[Robot], head: Any, **arguments: Any) -> Robot:
    """A robot whose goal has begun."""
    robot = Robot(head, **arguments)
    made.append(robot)
    robot.feed()
    assert robot.runner.start("pick the red cube") is None
    return robot


def ended(robot: Robot) -> Stop:
    outcome = robot.runner.outcome
    assert outcome is not None
    assert not robot.runner.active
    assert not robot.runner.gate.is_open
    return outcome.reason


def test_without_a_goal_nothing_is_published(made: list[Robot]) -> None:
    robot = Robot(HoldHead(SPEC))
    made.append(robot)
    robot.steps(20)
    assert robot.published == []
    assert robot.chunks == []


def test_needs_heartbeat_and_state_to_start(made: list[Robot]) -> None:
    robot = Robot(HoldHead(SPEC))
    made.append(robot)
    refused = robot.runner.start("go")
    assert refused is not None
    assert refused.reason is Stop.HEARTBEAT_LOST
    robot.runner.heartbeat()
    refused = robot.runner.start("go")
    assert refused is not None
    assert refused.reason is Stop.STATE_LOST
    assert refused.message == "no joint states came yet that hold, together, every joint of the robot"
    robot.feed()
    assert robot.runner.start("go") is None
    again = robot.runner.start("go")
    assert again is not None
    assert again.reason is Stop.BUSY


def test_hold_head_holds_the_measured_position(made: list[Robot]) -> None:
    robot = ready(made, HoldHead(SPEC))
    robot.await_chunk()
    robot.steps(60)
    assert len(robot.published) == 60
    assert all(c.position == pytest.approx(START, abs=1e-6) and not c.hold for c in robot.published)
    assert len(robot.chunks) >= 4  # a new chunk every `execute` steps
    assert robot.chunks[-1].head == "hold_stub"


def test_replay_repeats_the_recording_and_is_done(made: list[Robot]) -> None:
    recorded = np.stack([np.linspace(0.3, 0.6, 40), np.linspace(-0.4, -0.7, 40), np.full(40, 0.02)], axis=1)
    robot = ready(made, ReplayHead(SPEC, recorded, SPEC.fps))
    robot.run()
    assert ended(robot) is Stop.DONE
    published = np.array([c.position for c in robot.published if not c.hold])
    starts = np.flatnonzero(np.linalg.norm(published - recorded[0], axis=1) < 2e-3)
    assert len(starts) > 0
    played = published[starts[-1] : starts[-1] + 40]
    assert np.abs(played - recorded).max() < 0.012  # within one step of the recording
    assert published[-1] == pytest.approx(recorded[-1], abs=1e-5)


def test_sine_swings_one_joint_and_returns(made: list[Robot]) -> None:
    robot = ready(made, SineHead(SPEC, "shoulder", amplitude=0.2, frequency_hz=0.5, duration_s=4.0))
    robot.run()
    assert ended(robot) is Stop.DONE
    published = np.array([c.position for c in robot.published])
    assert published[:, 0].max() == pytest.approx(0.3, abs=0.01)
    assert published[:, 0].min() == pytest.approx(-0.1, abs=0.01)
    assert published[-1] == pytest.approx(START, abs=0.02)
    assert np.ptp(published[:, 1:], axis=0).max() < 1e-6


def test_sine_shrinks_to_the_limits(made: list[Robot]) -> None:
    robot = ready(made, SineHead(SPEC, "finger", amplitude=5.0, frequency_hz=1.0, duration_s=2.0))
    robot.run()
    assert ended(robot) is Stop.DONE


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda a: a * np.nan, Stop.NON_FINITE),
        (lambda a: a + 10, Stop.OUT_OF_LIMITS),
        (lambda a: a + np.array([0.3, 0, 0]), Stop.JUMP),
        (lambda a: a[:-1], Stop.WRONG_SHAPE),
        (lambda a: a + np.linspace(0, 1.4, len(a))[:, None] * [1, 0, 0], Stop.TOO_FAST),
    ],
)
def test_a_bad_chunk_ends_the_goal_and_holds(made: list[Robot], spoil: Any, reason: Stop) -> None:
    bad = threading.Event()

    def predict(observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        good = HoldHead(SPEC).predict(observation, prefix, delay_steps)
        if not bad.is_set():
            return good
        return ActionChunk.make(SPEC, observation, spoil(good.actions.astype(float)), observation.stamp_ns, "bad")

    robot = ready(made, CallableHead(SPEC, predict))
    robot.await_chunk()
    robot.steps(3)
    bad.set()
    robot.run()
    assert ended(robot) is reason
    hold = robot.step()
    assert hold is not None
    assert hold.hold
    assert hold.position == pytest.approx(START, abs=1e-6)


def test_a_head_that_raises_ends_the_goal_with_its_words(made: list[Robot]) -> None:
    def refuse(*_: Any) -> ActionChunk:
        raise ActionError("there is no target to reach for")

    def crash(*_: Any) -> ActionChunk:
        raise ZeroDivisionError("oops")

    robot = ready(made, CallableHead(SPEC, refuse))
    outcome = robot.runner.wait(60)
    assert outcome is not None
    assert (outcome.reason, outcome.message) == (Stop.HEAD_FAILED, "there is no target to reach for")
    assert robot.errors == []
    robot = ready(made, CallableHead(SPEC, crash))
    outcome = robot.runner.wait(60)
    assert outcome is not None
    assert outcome.message == "head 'test_head' failed: ZeroDivisionError: oops"
    assert "Traceback" in robot.errors[0]


def test_what_is_no_chunk_ends_the_goal_and_not_the_head_s_thread(made: list[Robot]) -> None:
    robot = ready(made, CallableHead(SPEC, lambda *_: {"actions": [[0.0]]}))
    outcome = robot.runner.wait(60)
    assert outcome is not None
    assert outcome.reason is Stop.HEAD_FAILED
    assert outcome.message == "head 'test_head' returned dict; expected ActionChunk"
    robot.wait_for_head()
    robot.feed()
    assert robot.runner.start("again") is None
    assert robot.runner.wait(60) is not None


def test_a_head_that_forges_its_chunk_or_exits_ends_the_goal_and_not_its_thread(made: list[Robot]) -> None:
    def forge(observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        chunk = HoldHead(SPEC).predict(observation, prefix, delay_steps)
        object.__setattr__(chunk, "t0_ns", None)
        return chunk

    def leave(*_: Any) -> ActionChunk:
        raise SystemExit(3)

    class Unreadable(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def raising(error: BaseException) -> Callable[..., ActionChunk]:
        def refuse(*_: Any) -> ActionChunk:
            raise error

        return refuse

    for predict, words in (
        (forge, "t0_ns is None; expected"),
        (leave, "SystemExit: 3"),
        (raising(asyncio.CancelledError("hung up")), "CancelledError: hung up"),  # of a client of a policy server
        (raising(OSError("no file \udcff")), "OSError: no file \\udcff"),  # which no message of ROS can hold
        (raising(Unreadable()), "Unreadable, whose message cannot be read"),
    ):
        robot = ready(made, CallableHead(SPEC, predict))
        outcome = robot.runner.wait(60)
        assert outcome is not None
        assert outcome.reason is Stop.HEAD_FAILED
        assert words in outcome.message
        assert "".join(robot.errors).encode() is not None  # what is logged is UTF-8, or this raises
        robot.wait_for_head()
        assert robot.runner.start("again") is None
        assert robot.runner.wait(60) is not None


def test_a_chunk_that_cannot_be_published_ends_the_goal_and_not_the_head_s_thread(made: list[Robot]) -> None:
    robot = Robot(HoldHead(SPEC))
    made.append(robot)

    def fail(chunk: ActionChunk) -> None:
        raise OSError("the publisher is gone")

    robot.runner._on_chunk = fail
    robot.feed()
    for _ in range(2):
        assert robot.runner.start("go") is None
        outcome = robot.runner.wait(60)
        assert outcome is not None
        assert outcome.reason is Stop.HEAD_FAILED
        assert outcome.message.endswith("could not be taken over: OSError: the publisher is gone")
        hold = robot.step()
        assert hold is not None
        assert hold.hold
        robot.wait_for_head()


def test_a_head_that_hangs_ends_the_goal_and_blocks_the_next(made: list[Robot]) -> None:
    thinking, release = threading.Event(), threading.Event()

    def hang(observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        thinking.set()
        release.wait(60)
        return HoldHead(SPEC).predict(observation, prefix, delay_steps)

    robot = ready(made, CallableHead(SPEC, hang))
    assert thinking.wait(60)
    robot.steps(70, wait=False)  # 2.3 s
    assert ended(robot) is Stop.HEAD_LATE
    refused = robot.runner.start("again")
    assert refused is not None
    assert refused.reason is Stop.BUSY
    release.set()
    robot.wait_for_head()
    with robot.runner._changed:
        assert robot.runner._changed.wait_for(lambda: robot.runner._thinking_since_ns is None, 60)
    assert robot.chunks == []  # what the head made for the old goal is thrown away
    assert robot.runner.start("again") is None


def test_silence_of_heartbeat_or_state_ends_the_goal(made: list[Robot]) -> None:
    robot = ready(made, HoldHead(SPEC))
    robot.await_chunk()
    robot.steps(5)
    robot.heart_beats = False
    robot.steps(15)
    assert robot.runner.active  # 0.5 s exactly are allowed
    robot.steps(1)
    assert ended(robot) is Stop.HEARTBEAT_LOST
    assert robot.published[-1].hold

    robot = ready(made, HoldHead(SPEC))
    robot.await_chunk()
    robot.sends_state = False
    robot.steps(8)
    assert ended(robot) is Stop.STATE_LOST
    assert robot.runner.outcome is not None
    assert robot.runner.outcome.message.startswith("no joint states of every joint came for 0.2")


def test_estop_holds_on_the_next_tick_until_reset(made: list[Robot]) -> None:
    robot = ready(made, SineHead(SPEC, "shoulder", 0.3, 0.5))
    robot.await_chunk()
    robot.steps(5)
    robot.runner.estop(True)
    last = robot.published[-1].position
    command = robot.step()
    assert command is not None
    assert command.hold
    assert command.position.tolist() == last.tolist()
    assert ended(robot) is Stop.ESTOP
    robot.steps(100)
    assert robot.published[-1].hold  # as long as it is latched
    refused = robot.runner.start("go")
    assert refused is not None
    assert refused.reason is Stop.ESTOP
    robot.runner.estop(False)
    assert robot.runner.reset_estop() is None
    count = len(robot.published)
    robot.steps(3)
    assert len(robot.published) == count


def test_estop_before_any_goal_moves_nothing(made: list[Robot]) -> None:
    robot = Robot(HoldHead(SPEC))
    made.append(robot)
    robot.runner.estop(True)
    robot.steps(5)
    assert robot.published == []


def test_cancel_and_deadline(made: list[Robot]) -> None:
    robot = ready(made, HoldHead(SPEC))
    robot.await_chunk()
    robot.steps(2)
    robot.runner.cancel()
    assert ended(robot) is Stop.CANCELLED
    robot.wait_for_head()
    robot.feed()
    assert robot.runner.start("go", deadline_s=0.5) is None
    robot.run()
    assert ended(robot) is Stop.DEADLINE


@pytest.mark.parametrize("deadline_s", [float("inf"), float("nan"), -1.0, 1e300])
def test_a_deadline_that_is_none_is_refused_before_anything_opens(made: list[Robot], deadline_s: float) -> None:
    robot = Robot(HoldHead(SPEC))
    made.append(robot)
    robot.feed()
    refused = robot.runner.start("go", deadline_s)
    assert refused is not None
    assert refused.reason is Stop.DEADLINE
    assert "expected 0 (none) to 1e+09 s" in refused.message
    assert not robot.runner.active
    assert not robot.runner.gate.is_open


def test_a_clock_that_goes_back_ends_the_goal_and_the_next_one_begins_anew(made: list[Robot]) -> None:
    robot = ready(made, SineHead(SPEC, "shoulder", 0.3, 0.5))
    steady = Clock()
    robot.runner._steady_ns = steady  # which does not go back
    robot.await_chunk()
    robot.steps(10)
    last = robot.published[-1].position
    robot.pass_time(-3.0)  # a tenth of a second: a clock that is set right
    robot.tick()
    assert robot.runner.active
    robot.pass_time(-60.0)
    robot.tick()
    assert ended(robot) is Stop.STALE
    assert "the clock went back by 2." in robot.runner.outcome.message  # type: ignore[union-attr]
    assert robot.published[-1].hold
    assert np.abs(robot.published[-1].position - last).max() <= SPEC.max_velocity.max() * SPEC.dt_s
    robot.wait_for_head()
    robot.feed()
    assert robot.runner.start("again") is None
    robot.steps(30)
    assert robot.runner.active


def test_limits_that_would_never_end_a_goal_are_refused() -> None:
    for bad in (float("nan"), float("inf"), 0.0, -1.0):
        with pytest.raises(ActionError, match=r"head_timeout_s is .*; expected seconds above 0"):
            RunnerLimits(head_timeout_s=bad)


def test_a_robot_that_does_not_follow_is_not_pushed_on(made: list[Robot]) -> None:
    recorded = np.stack([np.linspace(0.1, 1.4, 80), np.full(80, -0.5), np.full(80, 0.01)], axis=1)
    robot = ready(made, ReplayHead(SPEC, recorded, SPEC.fps), follows=False)
    robot.run()
    assert ended(robot) is Stop.TRACKING
    hold = robot.step()
    assert hold is not None
    assert hold.position == pytest.approx(START, abs=1e-6)  # where it is, not where it was told to go


def test_a_slow_head_starves_the_plan(made: list[Robot]) -> None:
    second, release = threading.Event(), threading.Event()
    calls = []

    def predict(observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        calls.append(delay_steps)
        if len(calls) > 1:
            second.set()
            release.wait(60)
        return HoldHead(SPEC).predict(observation, prefix, delay_steps)

    robot = ready(made, CallableHead(SPEC, predict))
    robot.await_chunk()
    robot.steps(10, wait=False)
    assert second.wait(60)
    robot.steps(30, wait=False)
    assert ended(robot) is Stop.STARVED
    release.set()


def test_a_loop_that_is_held_up_neither_leaps_nor_loses_its_way(made: list[Robot]) -> None:
    recorded = np.stack([np.linspace(0.1, 1.3, 60), np.full(60, -0.5), np.full(60, 0.01)], axis=1)
    robot = ready(made, ReplayHead(SPEC, recorded, SPEC.fps))
    random, last = np.random.default_rng(5), robot.position
    while robot.runner.active:
        robot.wait_for_head()
        command = robot.step(float(random.choice([1.0, 1.0, 6.0, 10.0])))
        if command is not None:
            assert (np.abs(command.position - last) <= SPEC.max_velocity / 30 + 1e-9).all()
            last = command.position
    assert ended(robot) is Stop.DONE
    assert last == pytest.approx(recorded[-1], abs=2e-3)


@pytest.mark.parametrize("periods", [1.4, 2.0, 6.0, 10.0])
def test_a_chunk_that_arrives_while_the_loop_is_held_up_does_not_run_ahead(made: list[Robot], periods: float) -> None:
    # The head's thread goes on where the control loop does not: it begins with, and delivers, at times without a tick.
    recorded = np.stack([np.linspace(0.1, 1.3, 60), np.full(60, -0.5), np.full(60, 0.01)], axis=1)
    robot = ready(made, ReplayHead(SPEC, recorded, SPEC.fps))
    robot.await_chunk()
    last = robot.position
    for step in range(400):
        if not robot.runner.active:
            break
        robot.wait_for_head()
        if step % 5 == 4:
            robot.pass_time(periods / 2)
            robot.wait_for_head()
            command = robot.step(periods / 2)
        else:
            command = robot.step()
        if command is not None:
            assert (np.abs(command.position - last) <= SPEC.max_velocity / 30 + 1e-9).all()
            last = command.position
    assert ended(robot) is Stop.DONE
    assert last == pytest.approx(recorded[-1], abs=2e-3)


def test_a_first_chunk_that_took_long_begins_when_it_arrives(made: list[Robot]) -> None:
    recorded = np.stack([np.linspace(0.1, 0.7, 60), np.full(60, -0.5), np.full(60, 0.01)], axis=1)
    replay, release = ReplayHead(SPEC, recorded, SPEC.fps), threading.Event()

    def predict(observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        release.wait(60)
        return replay.predict(observation, prefix, delay_steps)

    robot = ready(made, CallableHead(SPEC, predict))
    robot.steps(12, wait=False)  # 0.4 s, in which the recording moves by 0.12 rad
    assert robot.published == []
    release.set()
    robot.run()
    assert ended(robot) is Stop.DONE
    published = np.array([c.position for c in robot.published])
    assert published[0, 0] == pytest.approx(0.1, abs=0.02)
    assert published[-1, 0] == pytest.approx(0.7, abs=1e-3)
    assert robot.runner.progress()[2] > 2.0


def test_prefix_and_delay_tell_the_head_what_is_under_way(made: list[Robot]) -> None:
    seen: list[tuple[NDArray[np.float32], int, int]] = []
    sine = SineHead(SPEC, "shoulder", 0.3, 0.5)

    def predict(observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        seen.append((prefix, delay_steps, observation.stamp_ns))
        return sine.predict(observation, prefix, delay_steps)

    robot = ready(made, CallableHead(SPEC, predict))
    robot.await_chunk()
    stamps = []
    for _ in range(30):
        robot.steps(1)
        stamps.append(robot.clock.now_ns)
    assert seen[0][0].shape == (0, 3)
    assert len(seen) > 2
    published_at = dict(zip(stamps, robot.published, strict=True))
    for prefix, delay, stamp in seen[1:]:
        assert 1 <= delay <= 2
        assert len(prefix) >= SPEC.horizon - SPEC.execute - delay
        # What was published one period before is due at the stamp.
        due = published_at.get(stamp - SPEC.dt_ns)
        assert due is None or prefix[0] == pytest.approx(due.position, abs=1e-3)


def test_whatever_a_head_returns_is_inside_the_limits(made: list[Robot]) -> None:
    random = np.random.default_rng(3)

    def predict(observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        start = SPEC.positions_from_state(observation.state)
        steps = random.normal(0, random.choice([0.2, 0.3, 3.0]), (SPEC.horizon, 3)) * SPEC.max_velocity / 30
        actions = start + np.cumsum(steps, axis=0)
        if random.random() < 0.8:
            actions = np.clip(actions, SPEC.lower, SPEC.upper)
        return ActionChunk.make(SPEC, observation, actions, observation.stamp_ns, "fuzz")

    robot = Robot(CallableHead(SPEC, predict))
    made.append(robot)
    last = robot.position
    for _ in range(60):
        robot.feed()
        assert robot.runner.start("go") is None
        for _ in range(30):
            robot.wait_for_head()
            going_on = robot.runner.active  # asked now: later the head's thread may have ended the goal or not
            elapsed = float(random.choice([0.5, 1.0, 1.0, 1.1, 3.0]))
            command = robot.step(elapsed)
            if command is not None:
                assert (command.position >= SPEC.lower).all()
                assert (command.position <= SPEC.upper).all()
                assert (np.abs(command.position - last) <= SPEC.max_velocity / 30 + 1e-6).all()
                last = command.position
            if not going_on:
                break
        robot.wait_for_head()  # it draws from the same generator: what follows must not depend on who was faster
        robot.runner.cancel()
    assert len(robot.chunks) > 60


def test_head_and_gate_must_be_of_one_spec() -> None:
    other = ActionSpec("other", 30.0, 16, 8, SPEC.joints)
    with pytest.raises(ActionError, match="head 'hold_stub' is for spec"):
        PolicyRunner(HoldHead(other), Gate(SPEC), ChunkQueue(SPEC), lambda: 0)


def test_close_ends_the_goal(made: list[Robot]) -> None:
    robot = ready(made, HoldHead(SPEC), limits=RunnerLimits(head_timeout_s=5.0))
    robot.runner.close()
    assert ended(robot) is Stop.INACTIVE
    refused = robot.runner.start("go")
    assert refused is not None
    assert refused.reason is Stop.INACTIVE
