"""Stamps that are old, zero, ahead, repeated or going back, and clocks that are reset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.ros.freshness import Freshness, StampGate

S = 1_000_000_000
RULE = Freshness(max_age_ns=1 * S, tolerance_ns=S // 4)


@pytest.mark.parametrize(
    ("stamp_ns", "now_ns", "expected"),
    [
        (100 * S, 100 * S, None),
        (99 * S, 100 * S, None),  # as old as allowed
        (99 * S - 1, 100 * S, "stale"),
        (100 * S + S // 4, 100 * S, None),  # as far ahead as allowed
        (100 * S + S // 4 + 1, 100 * S, "future_stamp"),
        (0, 100 * S, "zero_stamp"),
        (0, S // 2, "zero_stamp"),  # it would be young, but nobody knows
        (5 * S, 0, "no_clock"),
    ],
)
def test_a_first_stamp(stamp_ns: int, now_ns: int, expected: str | None) -> None:
    assert StampGate().refusal(stamp_ns, now_ns, RULE) == expected


def test_stamps_must_rise() -> None:
    gate = StampGate()
    assert gate.refusal(10 * S, 10 * S, RULE) is None
    assert gate.refusal(10 * S, 10 * S + 1, RULE) == "repeated_stamp"
    assert gate.refusal(10 * S - 1, 10 * S + 2, RULE) == "out_of_order"
    assert gate.refusal(10 * S + 1, 10 * S + 3, RULE) is None
    assert gate.restarts == 0


def test_a_stamp_that_was_refused_does_not_bar_younger_ones() -> None:
    gate = StampGate()
    assert gate.refusal(50 * S, 10 * S, RULE) == "future_stamp"
    assert gate.refusal(10 * S, 10 * S, RULE) is None


def test_after_a_reset_of_the_clock_images_are_taken_at_once() -> None:
    gate = StampGate()
    assert gate.refusal(100 * S, 100 * S, RULE) is None
    assert gate.refusal(1 * S, 100 * S, RULE) == "stale"  # the image overtook the clock's reset
    assert gate.refusal(1 * S, 1 * S, RULE) is None
    assert gate.restarts == 1
    assert gate.refusal(100 * S + 1, 1 * S, RULE) == "future_stamp"  # an image from before, late
    assert gate.refusal(2 * S, 2 * S, RULE) is None


def test_a_clock_that_is_nudged_back_was_not_reset() -> None:
    gate = StampGate()
    assert gate.refusal(100 * S, 100 * S, RULE) is None
    assert gate.refusal(100 * S - S // 10, 100 * S - S // 5, RULE) == "out_of_order"
    assert gate.restarts == 0


@given(st.lists(st.tuples(st.integers(-2 * S, 2 * S), st.integers(0, S)), max_size=50))
def test_what_passes_is_fresh_and_rises(steps: list[tuple[int, int]]) -> None:
    """Whatever a camera stamps while the clock runs on, only fresh and rising stamps pass."""
    gate, now_ns, last_ns = StampGate(), 1000 * S, 0
    for offset_ns, elapsed_ns in steps:
        now_ns += elapsed_ns
        stamp_ns = now_ns + offset_ns
        if gate.refusal(stamp_ns, now_ns, RULE) is None:
            assert stamp_ns > last_ns
            assert -RULE.tolerance_ns <= now_ns - stamp_ns <= RULE.max_age_ns
            last_ns = stamp_ns
