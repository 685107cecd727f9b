"""Rates hold on average whatever the camera's is; priorities order; sets of tasks are checked together."""

from __future__ import annotations

import pytest

from exaone_ros.errors import TaskError
from exaone_ros.ros.schedule import TaskBoard, TaskSchedule, check_standing_tasks, runs_beside
from exaone_ros.tasks import Ask, Count, Decide, Ground, StandingTask

S = 1_000_000_000


def ground(name: str, rate_hz: float = 0.0, priority: int = 0) -> StandingTask:
    return StandingTask(Ground(name=name), rate_hz=rate_hz, priority=priority)


def asked(schedule: TaskSchedule, camera_hz: float, seconds: float, jitter_ns: int = 0) -> dict[str, int]:
    """How often each task was due at a camera of that rate."""
    numbers: dict[str, int] = {}
    for index in range(round(camera_hz * seconds)):
        stamp_ns = 1000 * S + round(index * S / camera_hz) + jitter_ns * (1 - index % 3)
        for standing in schedule.take_due(stamp_ns):
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


def test_highest_priority_first_and_in_the_order_given() -> None:
    schedule = TaskSchedule([ground("a"), ground("b", priority=5), ground("c"), ground("d", priority=-1)])
    assert [standing.task.name for standing in schedule.take_due(S)] == ["b", "a", "c", "d"]


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
    board = TaskBoard([ground("a", 0.1)])
    schedule = board.schedule("")
    schedule.take_due(1000 * S)
    with pytest.raises(TaskError, match="twice"):
        board.replace([ground("b"), ground("b")])
    assert [standing.task.name for standing in schedule.tasks] == ["a"]
    board.replace([ground("b", 0.1)])
    assert [standing.task.name for standing in schedule.take_due(1001 * S)] == ["b"]


def test_what_does_not_go_together_is_named() -> None:
    assert check_standing_tasks([ground("a"), ground("b")]) == []
    assert "at least one" in check_standing_tasks([])[0]
    assert "at most 256" in check_standing_tasks([ground(f"g{index}") for index in range(257)])[0]
    assert "'a' is there twice" in check_standing_tasks([ground("a"), ground("a")])[0]
    assert check_standing_tasks([StandingTask(Ask(name="q", question="Why?"))]) == []
    assert "one camera" in check_standing_tasks([StandingTask(Ground(name="g"), camera="left")])[0]
    wrong = check_standing_tasks([StandingTask(Ground(name="g"), camera="rigth")], ("left", "right"))[0]
    assert "'rigth'; expected one of left, right, or * for all" in wrong
    counts = [StandingTask(Count(name="n", label=label)) for label in ("mug", "ball")]
    assert check_standing_tasks(counts) == []  # one message with two classes
    decide = StandingTask(Decide(name="n", instruction="Well?", options=("yes", "no")))
    assert "twice" in check_standing_tasks([*counts, decide])[0]


def test_tasks_that_stay_keep_their_turn_and_new_ones_are_due_at_once() -> None:
    schedule = TaskSchedule([ground("slow", 0.1), ground("gone", 1.0)])
    schedule.take_due(1000 * S)
    schedule.replace([ground("new", 0.5), ground("slow", 0.1)])
    assert [standing.task.name for standing in schedule.take_due(1001 * S)] == ["new"]
    schedule.replace([ground("slow", 5.0)])  # the same name asked otherwise is another task
    assert schedule.any_due(1001 * S + 1)


def test_tasks_are_dealt_out_to_cameras() -> None:
    tasks = [
        ground("unnamed"),
        StandingTask(Ground(name="right"), camera="right"),
        StandingTask(Ground(name="each"), camera="*"),
    ]
    board = TaskBoard(tasks, ("left", "right"))
    assert [standing.task.name for standing in board.schedule("left").tasks] == ["unnamed", "each"]
    assert [standing.task.name for standing in board.schedule("right").tasks] == ["right", "each"]
    assert board.tasks == tuple(tasks)


def test_a_task_that_is_being_answered_is_not_asked_again() -> None:
    schedule = TaskSchedule([ground("a"), ground("b")])
    a, _ = schedule.tasks
    assert [standing.task.name for standing in schedule.take_due(S, {a})] == ["b"]
    assert not schedule.any_due(S, set(schedule.tasks))


def test_while_the_engine_is_busy_only_what_is_overdue_is_asked() -> None:
    schedule = TaskSchedule([ground("every frame"), ground("each second", 1.0)])
    assert len(schedule.take_due(1000 * S)) == 2
    assert schedule.take_due(1001 * S, overdue_only=True) == []  # due, and there is time
    assert [s.task.name for s in schedule.take_due(1001 * S + S // 2, overdue_only=True)] == ["each second"]


def test_what_takes_long_runs_beside_the_rest() -> None:
    assert runs_beside(StandingTask(Ask(question="Why?")))
    assert runs_beside(StandingTask(Ground(thinking=True))) and not runs_beside(ground("a"))
