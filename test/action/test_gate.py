"""The gate: closed by default, every refusal has a name, and nothing outside the limits ever comes out of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.gate import Gate, GateLimits, Stop, Verdict
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.errors import ActionError

SPEC = ActionSpec.make_example()
DT = SPEC.dt_ns
START = np.array([0.0, -0.5, 0.01])


def opened() -> Gate:
    gate = Gate(SPEC)
    assert gate.open(START, 0) is None
    return gate


def chunk(actions: np.ndarray | None = None, **changes: object) -> ActionChunk:
    values = {
        "actions": np.repeat(START[None], SPEC.horizon, axis=0) if actions is None else actions,
        "t0_ns": 0,
        "dt_ns": DT,
        "spec_hash": SPEC.hash,
        "observed_ns": 0,
        "head": "test",
    }
    return ActionChunk(**{**values, **changes})  # type: ignore[arg-type]


def reason(verdict: object) -> Stop | None:
    assert verdict is None or isinstance(verdict, Verdict)
    return verdict.reason if verdict else None


def test_closed_by_default() -> None:
    gate = Gate(SPEC)
    assert not gate.is_open
    assert reason(gate.command(START, 0)) is Stop.INACTIVE
    assert gate.close(START) is None  # nothing was ever commanded: nothing to hold


def test_a_good_chunk_passes() -> None:
    assert opened().check(chunk(), 0) is None


def test_each_refusal_has_its_name() -> None:
    gate = opened()
    still = np.repeat(START[None], SPEC.horizon, axis=0)
    bad_number, outside, fast, far = still.copy(), still.copy(), still.copy(), still.copy()
    bad_number[3, 1] = np.inf
    outside[5:, 2] = 0.0301
    fast[5:, 0] += 1.1 / 30
    far[:, 0] += 0.2
    assert reason(gate.check(chunk(spec_hash="0" * 16), 0)) is Stop.WRONG_SPEC
    assert reason(gate.check(chunk(still[:-1]), 0)) is Stop.WRONG_SHAPE
    assert reason(gate.check(chunk(still[:, :-1]), 0)) is Stop.WRONG_SHAPE
    assert reason(gate.check(chunk(dt_ns=DT + 1), 0)) is Stop.WRONG_SHAPE
    assert reason(gate.check(chunk(bad_number), 0)) is Stop.NON_FINITE
    assert reason(gate.check(chunk(outside), 0)) is Stop.OUT_OF_LIMITS
    assert reason(gate.check(chunk(fast), 0)) is Stop.TOO_FAST
    assert reason(gate.check(chunk(far), 0)) is Stop.JUMP
    assert reason(gate.check(chunk(), 2 * NS)) is Stop.STALE
    assert reason(gate.check(chunk(t0_ns=3600 * NS), 0)) is Stop.STALE  # a plan that would creep for an hour
    assert reason(gate.check(chunk(t0_ns=2**70), 0)) is Stop.STALE
    assert reason(gate.check(chunk(observed_ns=5 * NS), 0)) is Stop.STALE  # from the future: clocks disagree


def test_a_late_chunk_may_have_passed_the_commanded_position_earlier() -> None:
    moving = np.repeat(START[None], SPEC.horizon, axis=0)
    moving[:, 0] += np.arange(SPEC.horizon) * 0.9 / 30
    assert opened().check(chunk(moving), 10 * DT) is None
    moving[:, 0] += 0.2  # never there
    assert reason(opened().check(chunk(moving), 10 * DT)) is Stop.JUMP


def test_messages_name_the_joint_the_value_and_the_limit() -> None:
    outside = np.repeat(START[None], SPEC.horizon, axis=0)
    outside[7, 2] = 0.5
    verdict = opened().check(chunk(outside), 0)
    assert verdict is not None
    assert verdict.message == "action 7 of 'test' moves 'finger' to 0.5; allowed are 0 to 0.03, and it is 0.5 beyond"
    outside[7, 2] = 0.03 + 2e-6
    verdict = opened().check(chunk(outside), 0)
    assert verdict is not None
    assert verdict.message.endswith("to 0.030002; allowed are 0 to 0.03, and it is 2e-06 beyond")


def test_rounding_of_float32_is_not_a_violation() -> None:
    gate = Gate(SPEC)
    at_limits = np.array([joint.lower if i % 2 else joint.upper for i, joint in enumerate(SPEC.joints)])
    gate.open(at_limits, 0)
    assert gate.check(chunk(np.repeat(at_limits.astype(np.float32)[None], SPEC.horizon, axis=0)), 0) is None
    command = gate.command(at_limits.astype(np.float32), DT)
    assert not isinstance(command, Verdict)
    assert (command >= SPEC.lower).all()
    assert (command <= SPEC.upper).all()


def test_holds_the_last_command_never_zeros() -> None:
    gate = opened()
    moved = gate.command(START + np.array([0.01, 0, 0]), DT)
    held = gate.close(START)
    assert held is not None
    assert held.tolist() == np.asarray(moved).tolist()
    assert not np.allclose(held, 0)


def test_holds_where_the_robot_is_where_it_could_not_follow() -> None:
    gate = opened()
    gate.command(START + np.array([0.01, 0, 0]), DT)
    held = gate.close([0.5, -5.0, 0.01], at_measured=True)
    assert held is not None
    assert held.tolist() == [0.5, -2.0, 0.01]  # inside the limits, even where the robot is not


def test_lag_is_noticed() -> None:
    gate = opened()
    assert gate.check_lag(START + np.array([0.4, 0, 0])) is None
    assert reason(gate.check_lag(START + np.array([0.6, 0, 0]))) is Stop.TRACKING
    assert reason(gate.check_lag(START * np.nan)) is Stop.TRACKING


def test_estop_latches_until_it_is_released_and_reset() -> None:
    gate = opened()
    gate.estop(True)
    assert not gate.is_open
    assert reason(gate.open(START, 0)) is Stop.ESTOP
    assert reason(gate.reset_estop()) is Stop.ESTOP  # still pressed
    gate.estop(False)
    assert reason(gate.open(START, 0)) is Stop.ESTOP  # released, but latched
    assert gate.reset_estop() is None
    assert not gate.is_open  # the next goal opens it, not the reset
    assert gate.open(START, 0) is None


def test_open_needs_a_measured_position() -> None:
    assert reason(Gate(SPEC).open([0, np.nan, 0], 0)) is Stop.STATE_LOST
    assert reason(Gate(SPEC).open([0, 0], 0)) is Stop.STATE_LOST


def test_does_not_open_far_outside_of_the_limits() -> None:
    gate = Gate(SPEC)
    for outside in (SPEC.lower - 0.06, SPEC.upper + 0.06):
        verdict = gate.open(np.where([True, False, False], outside, START), 0)
        assert reason(verdict) is Stop.OUT_OF_LIMITS
        assert verdict is not None
        assert SPEC.joint_names[0] in verdict.message
        assert not gate.is_open
        assert gate.close(START) is None  # nothing was commanded: nothing to hold
    assert gate.open(SPEC.upper + 0.04, 0) is None
    assert gate.last is not None
    assert (gate.last <= SPEC.upper).all()


def test_a_stalled_loop_does_not_leap() -> None:
    gate = opened()
    command = gate.command(START + np.array([1.0, 0, 0]), 10 * NS)
    assert not isinstance(command, Verdict)
    assert command[0] - START[0] == pytest.approx(SPEC.max_velocity[0] / 30)


def test_bad_limits_are_refused() -> None:
    with pytest.raises(ActionError, match="max_jump_s is 0"):
        GateLimits(max_jump_s=0)


def assert_lawful(position: np.ndarray, last: np.ndarray, elapsed_ns: int) -> None:
    assert np.isfinite(position).all()
    assert (position >= SPEC.lower).all()
    assert (position <= SPEC.upper).all()
    allowed = SPEC.max_velocity * min(elapsed_ns, DT) / NS
    assert (np.abs(position - last) <= allowed + 1e-12).all()


def fuzzed_actions(random: np.random.Generator, now: np.ndarray) -> np.ndarray:
    """Chunks of many kinds: good ones, nearly good ones, wild ones, of wrong shape, with numbers that are none."""
    kind = random.integers(8)
    shape = (SPEC.horizon, 3)
    walk = now + np.cumsum(random.normal(0, 1, shape) * SPEC.max_velocity / 30 * random.choice([0.2, 0.4, 1.5]), axis=0)
    if kind <= 2:
        return np.clip(walk, SPEC.lower, SPEC.upper)
    if kind == 3:
        return walk
    if kind == 4:
        return random.normal(0, 10.0 ** random.integers(-6, 12), shape)
    if kind == 5:
        walk[random.integers(SPEC.horizon), random.integers(3)] = random.choice([np.nan, np.inf, -np.inf, 1e38])
        return walk
    if kind == 6:
        return random.normal(0, 1, (int(random.integers(1, 40)), int(random.integers(1, 6))))
    return np.clip(now + random.normal(0, 0.05, 3) * SPEC.max_velocity + np.zeros(shape), SPEC.lower, SPEC.upper)


def test_ten_thousand_fuzzed_chunks_and_no_violation() -> None:
    random = np.random.default_rng(8)
    now = 1_790_000_000 * NS
    gate, queue = Gate(SPEC), ChunkQueue(SPEC)
    reasons: dict[Stop | None, int] = {}
    published, published_ns = 0, now
    for _ in range(10_000):
        if not gate.is_open:
            queue.clear()
            measured = random.uniform(SPEC.lower - 0.01, SPEC.upper + 0.01)
            assert gate.open(measured, now) is None
            published_ns = now
        assert gate.last is not None
        made = ActionChunk(
            fuzzed_actions(random, gate.last).astype(np.float32),
            now + int(random.integers(-20, 5)) * DT if random.random() < 0.3 else now,
            DT if random.random() < 0.95 else int(random.integers(1, 10 * DT)),
            SPEC.hash if random.random() < 0.95 else "wrong",
            now - int(random.integers(0, 3 * NS)) if random.random() < 0.1 else now,
        )
        verdict = gate.check(made, now)
        reasons[reason(verdict)] = reasons.get(reason(verdict), 0) + 1
        if verdict is not None:
            last = gate.last
            held = gate.close(last)
            assert held is not None
            assert_lawful(held, last, 0)
            continue
        queue.push(made, now, gate.last)
        for _ in range(int(random.integers(0, 6))):
            last = gate.last
            now += int(random.choice([0, DT // 3, DT, DT + DT // 10, 30 * DT]))
            wanted = queue.at(now + DT)
            if wanted is None:  # the whole chunk had passed before it came
                continue
            command = gate.command(wanted, now)
            assert not isinstance(command, Verdict)
            assert_lawful(command, last, now - published_ns)
            published, published_ns = published + 1, now
    assert reasons[None] > 1500  # the fuzz is not so wild that nothing passes
    assert published > 3000
    refused = {Stop.WRONG_SPEC, Stop.WRONG_SHAPE, Stop.NON_FINITE, Stop.STALE, Stop.OUT_OF_LIMITS, Stop.TOO_FAST}
    assert refused | {Stop.JUMP} <= set(reasons)


@settings(max_examples=300, deadline=None)
@given(
    wanted=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=3, max_size=3),
    elapsed=st.integers(-NS, 10 * NS),
)
def test_any_command_is_lawful_or_refused(wanted: list[float], elapsed: int) -> None:
    gate = opened()
    command = gate.command(wanted, elapsed)
    if isinstance(command, Verdict):
        assert command.reason in (Stop.NON_FINITE, Stop.OUT_OF_LIMITS)
    else:
        assert_lawful(command, START, max(elapsed, 0))
