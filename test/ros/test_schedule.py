"""Rates hold on average whatever the camera's is; priorities order; sets of tasks are checked together."""

from __future__ import annotations

import pytest

from exaone_ros.errors import TaskError
from exaone_ros.ros.schedule import TaskSchedule, check_standing_tasks
from exaone_ros.tasks import Ask, Count, Decide, Ground, StandingTask

S = 1_000_000_000


def ground(name: str, rate_hz: float = 0.0, priority: int = 0) -> StandingTask:
    return StandingTask(Ground(name=name), rate_hz=rate_hz, priority=priority)


def asked(schedule: TaskSchedule, camera_hz: float, seconds: float, jitter_ns: int = 0) -> dict[str, int]:
    """How often each task was due at a camera of that rate."""
    numbers: dict[str, int] = {}
    for index in range(round(camera_hz * seconds)):
        stamp_ns = 1000 * S + round(index * S / camera_hz) + jitter_ns * (1 - index % 3)
        for group in schedule.take_due(stamp_ns):
            for standing in group:
                numbers[standing.task.name] = numbers.get(standing.task.name, 0) + 1
    return numbers


@pytest.mark.parametrize("camera_hz", [10.0, 15.0, 29.97, 60.0])
@pytest.mark.parametrize("rate_hz", [0.5, 2.0, 7.0, 10.0])
def test_a_rate_holds_on_average(camera_hz: float, rate_hz: float) -> None:
    numbers = asked(TaskSchedule([ground("a", rate_hz), ground("b")]), camera_hz, 60, jitter_ns=3_000_000)
    assert numbers["b"] == round(camera_hz * 60)
    assert numbers["a"] == pytest.approx(min(rate_hz, camera_hz) * 60, rel=0.02, abs=2)


def test_missed_periods_are_not_made_up_for() -> None:
    schedule = TaskSchedule([ground("a", 10.0)])
    assert schedule.take_due(1000 * S) != []
    assert schedule.take_due(1060 * S) != []  # the camera was away for a minute
    assert schedule.take_due(1060 * S + S // 100) == []
    assert schedule.take_due(1060 * S + S // 10) != []


def test_groups_of_equal_priority_highest_first_in_the_order_given() -> None:
    schedule = TaskSchedule([ground("a"), ground("b", priority=5), ground("c"), ground("d", priority=-1)])
    groups = schedule.take_due(S)
    assert [[standing.task.name for standing in group] for group in groups] == [["b"], ["a", "c"], ["d"]]


def test_looking_does_not_take() -> None:
    schedule = TaskSchedule([ground("a", 1.0)])
    assert schedule.any_due(S) and schedule.any_due(S)
    schedule.take_due(S)
    assert not schedule.any_due(S + 1)
    assert schedule.any_due(2 * S)


def test_a_reset_of_the_clock_makes_everything_due() -> None:
    schedule = TaskSchedule([ground("a", 0.1)])
    assert schedule.take_due(1000 * S) != []
    assert not schedule.any_due(1001 * S)
    assert schedule.any_due(1 * S) and schedule.take_due(1 * S) != []
    assert not schedule.any_due(2 * S)
    assert schedule.any_due(11 * S)  # and so on, in the new time


def test_replaced_tasks_are_due_at_once_and_bad_ones_change_nothing() -> None:
    schedule = TaskSchedule([ground("a", 0.1)])
    schedule.take_due(1000 * S)
    with pytest.raises(TaskError, match="twice"):
        schedule.replace([ground("b"), ground("b")])
    assert [standing.task.name for standing in schedule.tasks] == ["a"]
    schedule.replace([ground("b", 0.1)])
    assert [standing.task.name for standing in schedule.take_due(1001 * S)[0]] == ["b"]


def test_what_does_not_go_together_is_named() -> None:
    assert check_standing_tasks([ground("a"), ground("b")]) == []
    assert "at least one" in check_standing_tasks([])[0]
    assert "at most 256" in check_standing_tasks([ground(f"g{index}") for index in range(257)])[0]
    assert "'a' is there twice" in check_standing_tasks([ground("a"), ground("a")])[0]
    assert "topic" in check_standing_tasks([StandingTask(Ask(name="q", question="Why?"))])[0]
    assert "one camera" in check_standing_tasks([StandingTask(Ground(name="g"), camera="left")])[0]
    counts = [StandingTask(Count(name="n", label=label)) for label in ("mug", "ball")]
    assert check_standing_tasks(counts) == []  # one message with two classes
    decide = StandingTask(Decide(name="n", instruction="Well?", options=("yes", "no")))
    assert "twice" in check_standing_tasks([*counts, decide])[0]


def test_tasks_that_stay_keep_their_turn_and_new_ones_are_due_at_once() -> None:
    schedule = TaskSchedule([ground("slow", 0.1), ground("gone", 1.0)])
    schedule.take_due(1000 * S)
    schedule.replace([ground("new", 0.5), ground("slow", 0.1)])
    assert [[standing.task.name for standing in group] for group in schedule.take_due(1001 * S)] == [["new"]]
    schedule.replace([ground("slow", 5.0)])  # the same name asked otherwise is another task
    assert schedule.any_due(1001 * S + 1)
