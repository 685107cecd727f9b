"""Whatever a head returns or raises: the goal ends with its reason, what goes out is lawful, the next goal begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from action.fakes import CallableHead, Robot
from numpy.typing import NDArray

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.gate import Stop
from exaone_ros.action.heads.scripted import SineHead
from exaone_ros.action.observation import Observation
from exaone_ros.action.spec import NS, ActionSpec

SPEC = ActionSpec.make_example()
GOOD_CHUNKS = 2
"""Before the bad ones, so that something is under way."""

Bad = Callable[[ActionChunk], Any]


def forged(**changes: object) -> Bad:
    """A chunk whose parts were changed behind the back of its checks."""

    def forge(chunk: ActionChunk) -> ActionChunk:
        for name, value in changes.items():
            object.__setattr__(chunk, name, value)
        return chunk

    return forge


def actions(change: Callable[[NDArray[np.float64]], Any]) -> Bad:
    """A chunk with other actions."""
    return lambda chunk: replace(chunk, actions=change(chunk.actions.astype(np.float64)))


def raising(error: BaseException) -> Bad:
    def refuse(chunk: ActionChunk) -> None:
        raise error

    return refuse


def shifted(name: str, by_s: float) -> Bad:
    return lambda chunk: replace(chunk, **{name: getattr(chunk, name) + round(by_s * NS)})


def sawtooth(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inside the limits, at a speed that no joint has."""
    return a + np.where(np.arange(len(a)) % 2 == 1, 0.05, 0.0)[:, None] * [1, 0, 0]


BAD: dict[str, tuple[Bad, Stop]] = {
    "nan": (actions(lambda a: a * np.nan), Stop.NON_FINITE),
    "one nan": (actions(lambda a: np.where(np.arange(a.size).reshape(a.shape) == 20, np.nan, a)), Stop.NON_FINITE),
    "infinity": (actions(lambda a: a + np.inf), Stop.NON_FINITE),
    "beyond float32": (actions(lambda a: a + 1e300), Stop.NON_FINITE),
    "nan behind the checks": (forged(actions=np.full((SPEC.horizon, 3), np.nan)), Stop.NON_FINITE),
    "no action": (actions(lambda a: a[:0]), Stop.HEAD_FAILED),
    "one action too few": (actions(lambda a: a[:-1]), Stop.WRONG_SHAPE),
    "10000 actions": (actions(lambda a: np.resize(a, (10_000, 3))), Stop.WRONG_SHAPE),
    "a joint too many": (actions(lambda a: np.c_[a, a[:, :1]]), Stop.WRONG_SHAPE),
    "a vector": (actions(lambda a: a[0]), Stop.HEAD_FAILED),
    "a batch": (actions(lambda a: a[None]), Stop.HEAD_FAILED),
    "ragged": (actions(lambda a: [[0.0], [0.0, 1.0]]), Stop.HEAD_FAILED),
    "texts": (actions(lambda a: a.astype(str)), Stop.HEAD_FAILED),
    "complex": (actions(lambda a: a + 1j), Stop.HEAD_FAILED),
    "masked": (actions(lambda a: np.ma.masked_array(a, mask=True)), Stop.HEAD_FAILED),
    "no actions": (actions(lambda a: None), Stop.HEAD_FAILED),
    "whole numbers": (actions(lambda a: a.astype(int)), Stop.JUMP),
    "joints in another order": (actions(lambda a: a[:, ::-1]), Stop.OUT_OF_LIMITS),
    "degrees": (actions(np.rad2deg), Stop.OUT_OF_LIMITS),
    "zeros": (actions(np.zeros_like), Stop.JUMP),
    "outside": (actions(lambda a: a + np.array([0, 0, 1.0])), Stop.OUT_OF_LIMITS),
    "sawtooth": (actions(sawtooth), Stop.TOO_FAST),
    "elsewhere": (actions(lambda a: a + np.array([0.2, 0, 0])), Stop.JUMP),
    "of an hour ago": (shifted("t0_ns", -3600), Stop.STALE),
    "of tomorrow": (shifted("t0_ns", 86400), Stop.STALE),
    "seen a minute ago": (shifted("observed_ns", -60), Stop.STALE),
    "seen in the future": (shifted("observed_ns", 60), Stop.STALE),
    "no time": (forged(t0_ns=None), Stop.HEAD_FAILED),
    "a time beyond all numbers": (forged(t0_ns=10**400), Stop.HEAD_FAILED),
    "another pace": (lambda chunk: replace(chunk, dt_ns=2 * chunk.dt_ns), Stop.WRONG_SHAPE),
    "no pace": (forged(dt_ns=0), Stop.HEAD_FAILED),
    "of another spec": (lambda chunk: replace(chunk, spec_hash="0" * 16), Stop.WRONG_SPEC),
    "perhaps done": (forged(done=np.array([True, False])), Stop.HEAD_FAILED),
    "a dictionary": (lambda chunk: {"actions": chunk.actions}, Stop.HEAD_FAILED),
    "nothing": (lambda chunk: None, Stop.HEAD_FAILED),
    "an error": (raising(RuntimeError("CUDA error")), Stop.HEAD_FAILED),
    "no memory": (raising(MemoryError()), Stop.HEAD_FAILED),
    "hung up": (raising(asyncio.CancelledError()), Stop.HEAD_FAILED),
    "exit": (raising(SystemExit(3)), Stop.HEAD_FAILED),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of 1e300 as float32
def test_a_bad_head_ends_its_goal_lawfully_and_hinders_no_other(name: str) -> None:
    spoil, reason = BAD[name]
    sine, calls = SineHead(SPEC, "shoulder", 0.3, 0.5), 0

    def predict(observation: Observation, prefix: NDArray[np.float32], delay_steps: int) -> ActionChunk:
        nonlocal calls
        calls += 1
        chunk = sine.predict(observation, prefix, delay_steps)
        return chunk if calls <= GOOD_CHUNKS else spoil(chunk)

    robot = Robot(CallableHead(SPEC, predict))
    try:
        robot.feed()
        assert robot.runner.start("wave") is None
        robot.run()
        outcome = robot.runner.outcome
        assert outcome is not None
        assert (outcome.reason, outcome.chunks) == (reason, GOOD_CHUNKS), outcome.message
        assert outcome.message.isprintable() and outcome.message
        moving = [command.position for command in robot.published if not command.hold]
        hold = robot.step()
        assert hold is not None and hold.hold
        assert hold.position.tolist() == moving[-1].tolist()
        published = np.array([command.position for command in robot.published])
        assert np.isfinite(published).all()
        assert (published >= SPEC.lower).all() and (published <= SPEC.upper).all()
        assert (np.abs(np.diff(published, axis=0)) <= SPEC.max_velocity * SPEC.dt_s + 1e-9).all()
        robot.wait_for_head()
        calls = -1000  # well again
        assert robot.runner.start("wave") is None
        robot.steps(3)
        assert robot.runner.active
    finally:
        robot.runner.close()
