"""Trajectories: refused when they make no sense, linear when they do."""

from __future__ import annotations

import math

import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.trajectory import MAX_POINTS, Follower, Trajectory


def test_starts_at_the_present_targets_and_holds_the_last_point() -> None:
    trajectory = Trajectory.checked(["left_elbow"], [1.0, 3.0], [[-1.0], [-2.0]])
    follower = Follower(trajectory, start_s=10.0, targets={"left_elbow": 0.0})
    values = [follower.targets(t)["left_elbow"] for t in (10.0, 10.5, 11.0, 12.0, 13.0, 99.0)]
    assert values == pytest.approx([0.0, -0.5, -1.0, -1.5, -2.0, -2.0])
    assert not follower.done(12.9) and follower.done(13.0)


def test_point_at_time_zero_takes_hold_at_once() -> None:
    follower = Follower(Trajectory.checked(["left_elbow"], [0.0], [[-1.0]]), 5.0, {"left_elbow": 0.0})
    assert follower.targets(5.0) == {"left_elbow": -1.0}


@pytest.mark.parametrize(
    ("joints", "times", "positions", "word"),
    [
        ([], [1.0], [[]], "no joints"),
        (["tail"], [1.0], [[0.0]], "tail"),
        (["t" * 1000], [1.0], [[0.0]], r"names \['t{40}\.\.\.'\]; expected"),
        (list("abcde"), [1.0], [[0.0] * 5], r"\['a', 'b', 'c'\] and 2 more; expected"),
        (["left_elbow"] * 100_000, [1.0], [[0.0]], "100000 joints; expected 1 to"),
        (["left_elbow", "left_elbow"], [1.0], [[0.0, 0.0]], "twice"),
        (["left_elbow"], [], [], "0 points"),
        (["left_elbow"], [1.0], [[0.0, 1.0]], "point 0"),
        (["left_elbow"], [1.0, 2.0], [[0.0]], "2 times for 1 points"),
        (["left_elbow"], [1.0], [[math.nan]], "NaN"),
        (["left_elbow"], [math.inf], [[0.0]], "NaN or infinity"),
        (["left_elbow"], [1.0, 1.0], [[0.0], [1.0]], "grow"),
        (["left_elbow"], [2.0, 1.0], [[0.0], [1.0]], "grow"),
        (["left_elbow"], [-1.0], [[0.0]], "grow"),
        (["left_elbow"], range(MAX_POINTS + 1), [[0.0]] * (MAX_POINTS + 1), "points; expected 1 to"),
    ],
)
def test_nonsense_is_refused(joints: list[str], times: list[float], positions: list[list[float]], word: str) -> None:
    with pytest.raises(SimulationError, match=word):
        Trajectory.checked(joints, times, positions)
