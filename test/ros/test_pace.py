"""What shows that a machine starved a test, what does not, and that nothing else is a reason to try again."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

import robot_watcher
from pace import Pace
from robot_watcher import Watcher

EPOCH_S = 7e8


def steady(seconds: float, period_s: float = 0.02) -> list[tuple[float, float]]:
    """Joint states as they come from a simulator that keeps up: each a little late."""
    return [(100 + n * period_s + 0.005 * (n % 3), EPOCH_S + n * period_s) for n in range(round(seconds / period_s))]


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    """One whom nobody tells anything."""
    monkeypatch.setattr(robot_watcher, "PATIENCE_S", 0.01)
    made = Watcher("nobody")
    yield made
    made.close()


def test_who_keeps_up_is_not_starved() -> None:
    assert Pace().starved() == []
    assert Pace(steady(20), image_age_s=0.3, missed_ticks=3).starved() == []


@pytest.mark.parametrize(
    ("pace", "sign"),
    [
        (Pace([*steady(2), (102.2, EPOCH_S + 2.0)]), r"no joint states for 0\.2\d s"),  # they came late
        (Pace([*steady(2), (102.0, EPOCH_S + 2.5)]), r"no joint states for 0\.5\d s"),  # they were made late
        (Pace(steady(20, period_s=0.04)), r"simulated time went at 0\.50 of the real one"),
        (Pace(steady(20), image_age_s=1.25), r"an image was 1\.25 s old when it came"),
        (Pace(steady(20), missed_ticks=11), "the control loop missed 11 ticks"),
    ],
)
def test_each_sign_of_starvation_is_named(pace: Pace, sign: str) -> None:
    (found,) = pace.starved()
    assert re.fullmatch(sign, found)


def test_what_failed_without_being_starved_is_not_attempted_again(watcher: Watcher) -> None:
    attempts: list[None] = []
    with pytest.raises(AssertionError, match="what starved: nothing"):
        watcher.brings_hand_to(np.zeros(3), lambda: attempts.append(None))
    assert len(attempts) == 1


def test_what_was_starved_is_attempted_again(watcher: Watcher) -> None:
    there = watcher._kinematics.site("left_grasp", {}).position

    def attempt() -> None:
        with watcher.changed:
            watcher._pace.joints_s += [(100.0, EPOCH_S), (101.0, EPOCH_S + 1)]
            attempts.append(None)

    attempts: list[None] = []
    with pytest.raises(AssertionError, match=r"what starved: \['no joint states for 1\.00 s'"):
        watcher.brings_hand_to(there + 1.0, attempt)
    assert len(attempts) == 3
    watcher.brings_hand_to(there, attempt)
    assert len(attempts) == 4
