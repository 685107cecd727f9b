"""A robot's state out of the messages of several drivers: as old as its oldest part, and none when one is silent."""

from __future__ import annotations

import numpy as np
import pytest

from exaone_ros.action.spec import NS
from exaone_ros.ros.joint_parts import JointParts

T = 100 * NS
MS = NS // 1000


@pytest.fixture
def parts() -> JointParts:
    return JointParts(("a", "b", "c"))


def test_a_whole_message_is_a_state_in_the_order_that_is_wanted(parts: JointParts) -> None:
    for stamp_ns in (T, T, 0):  # also with a stamp that stands still
        made = parts.put(stamp_ns, ["x", "c", "b", "a"], [9.0, 3.0, 2.0, 1.0])
        assert made is not None and made[0] == stamp_ns
        assert made[1].dtype == np.float32 and made[1].tolist() == [1.0, 2.0, 3.0]


def test_parts_make_a_state_that_is_as_old_as_the_oldest(parts: JointParts) -> None:
    assert parts.put(T, ["a", "b"], [1.0, 2.0]) is None
    assert parts.missing == ["c"]
    made = parts.put(T + 5 * MS, ["c"], [3.0])
    assert made is not None and made[0] == T and made[1].tolist() == [1.0, 2.0, 3.0]
    assert parts.put(T + 10 * MS, ["c"], [4.0]) is None  # the others are no newer
    made = parts.put(T + 20 * MS, ["b", "a"], [5.0, 6.0])
    assert made is not None and made[0] == T + 10 * MS and made[1].tolist() == [6.0, 5.0, 4.0]


def test_a_driver_that_falls_silent_stops_the_states(parts: JointParts) -> None:
    parts.put(T, ["a", "b"], [1.0, 2.0])
    assert parts.put(T, ["c"], [3.0]) is not None
    assert all(parts.put(T + n * MS, ["a", "b"], [1.0, 2.0]) is None for n in range(1, 100))


def test_a_silent_driver_whose_clock_is_ahead_stops_the_states_too(parts: JointParts) -> None:
    parts.put(T + 5 * NS, ["c"], [3.0])
    assert parts.put(T, ["a", "b"], [1.0, 2.0]) is not None
    assert all(parts.put(T + n * MS, ["a", "b"], [1.0, 2.0]) is None for n in range(1, 100))
    made = parts.put(T + 6 * NS, ["c"], [4.0])
    assert made is not None and made[0] == T + 99 * MS and made[1].tolist() == [1.0, 2.0, 4.0]


def test_a_clock_that_was_set_back_begins_anew(parts: JointParts) -> None:
    parts.put(T, ["a", "b"], [1.0, 2.0])
    parts.put(T, ["c"], [3.0])
    assert parts.put(MS, ["a", "b"], [4.0, 5.0]) is None  # with the third of before it would be of two worlds
    made = parts.put(2 * MS, ["c"], [6.0])
    assert made is not None and made[0] == MS and made[1].tolist() == [4.0, 5.0, 6.0]


def test_what_is_overtaken_or_not_wanted_changes_nothing(parts: JointParts) -> None:
    assert parts.put(T, ["x"], [1.0]) is None and parts.put(T, ["a", "b"], []) is None
    assert parts.missing == ["a", "b", "c"]
    parts.put(T, ["a", "b"], [1.0, 2.0])
    assert parts.put(T - MS, ["a"], [9.0]) is None
    made = parts.put(T, ["c"], [3.0])
    assert made is not None and made[1].tolist() == [1.0, 2.0, 3.0]
