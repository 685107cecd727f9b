"""The chunk queue: what has passed is skipped, seams are continuous, nothing is faster than the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.spec import NS, ActionSpec

SPEC = ActionSpec.make_example()
DT = SPEC.dt_ns


def chunk(actions: np.ndarray, t0_ns: int, done: bool = False) -> ActionChunk:
    return ActionChunk(actions, t0_ns, DT, SPEC.hash, t0_ns, "test", done)


def ramp(start: float, speed: float) -> np.ndarray:
    """Shoulder moves at `speed` rad/s from `start`; the others rest."""
    actions = np.zeros((SPEC.horizon, 3))
    actions[:, 0] = start + speed * np.arange(SPEC.horizon) / SPEC.fps
    return actions


def test_empty_queue_has_no_plan() -> None:
    queue = ChunkQueue(SPEC)
    assert queue.at(0) is None
    assert queue.left_s(0) == 0
    assert queue.prefix(0).shape == (0, 3)


def test_actions_that_have_passed_are_skipped() -> None:
    queue = ChunkQueue(SPEC, blend_s=0.0)
    now = 1000 * NS + 3 * DT + DT // 2
    assert queue.push(chunk(ramp(0.0, 0.6), 1000 * NS), now, [0.06, 0, 0]) == 4
    position = queue.at(1000 * NS + 10 * DT)
    assert position is not None
    assert position[0] == pytest.approx(0.6 * 10 / 30)
    assert queue.left_s(now) == pytest.approx(11.5 / 30)


def test_a_chunk_that_has_passed_as_a_whole_changes_nothing() -> None:
    queue = ChunkQueue(SPEC)
    queue.push(chunk(ramp(0.0, 0.3), 0), 0, [0, 0, 0])
    before = queue.plan
    assert queue.push(chunk(ramp(1.0, 0.0), -100 * DT), 0, [0, 0, 0]) == SPEC.horizon
    assert queue.plan is before


def test_seam_slides_from_old_to_new() -> None:
    queue = ChunkQueue(SPEC, blend_s=4 * DT / NS)
    queue.push(chunk(ramp(0.0, 0.0), 0), 0, [0, 0, 0])
    queue.push(chunk(ramp(0.04, 0.0), 0), 2 * DT, [0, 0, 0])
    at = [float(queue.at(step * DT)[0]) for step in range(2, 8)]  # type: ignore[index]
    assert at == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04, 0.04], abs=1e-6)


def test_prefix_is_what_will_be_carried_out() -> None:
    queue = ChunkQueue(SPEC, blend_s=0.0)
    queue.push(chunk(ramp(0.0, 0.6), 0), 0, [0, 0, 0])
    prefix = queue.prefix(5 * DT)
    assert prefix.shape == (SPEC.horizon - 5, 3)
    assert prefix[:, 0] == pytest.approx(0.6 * np.arange(5, 16) / 30, abs=1e-6)
    assert queue.prefix(50 * DT).shape == (1, 3)  # past the end: where it rests


def test_times_since_the_epoch_keep_their_precision() -> None:
    epoch = 1_790_000_000 * NS
    queue = ChunkQueue(SPEC, blend_s=0.0)
    queue.push(chunk(ramp(0.0, 0.6), epoch), epoch, [0, 0, 0])
    position = queue.at(epoch + DT // 2)
    assert position is not None
    assert position[0] == pytest.approx(0.01, abs=1e-7)


@settings(max_examples=200, deadline=None)
@given(
    starts=st.lists(st.floats(-1.4, 1.4), min_size=2, max_size=6),
    delays=st.lists(st.integers(0, 20 * DT), min_size=6, max_size=6),
    blend_s=st.floats(0.0, 0.5),
)
def test_whatever_comes_the_plan_is_continuous_and_within_velocity(
    starts: list[float], delays: list[int], blend_s: float
) -> None:
    queue = ChunkQueue(SPEC, blend_s)
    now, position = 0, np.array([starts[0], 0.0, 0.0])
    for start, delay in zip(starts, delays, strict=False):
        before = queue.at(now)
        queue.push(chunk(ramp(start, 0.0), now - delay), now, position)
        if queue.plan is not None:
            if before is not None:
                assert queue.at(now) == pytest.approx(before, abs=1e-9)
            speed = np.abs(np.diff(queue.plan.positions, axis=0)) / (np.diff(queue.plan.times_ns)[:, None] / NS)
            assert (speed <= SPEC.max_velocity * (1 + 1e-9)).all()
        now += 5 * DT
        held = queue.at(now)
        position = position if held is None else held
