"""Which standing tasks are due on a frame, and in which order. Knows tasks and nanoseconds, no ROS."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import groupby

from exaone_ros.errors import TaskError
from exaone_ros.tasks import Ask, StandingTask

MAX_TASKS = 256

_SLACK = 0.1
"""Share of a period that a frame may come early: cameras jitter, and a 10 Hz task must not fall to 7.5 Hz at 30 Hz."""


def check_standing_tasks(tasks: Sequence[StandingTask]) -> list[str]:
    """Say what is wrong with a set of tasks, one line for each fault; empty where all is well.

    Each task is valid in itself already; this is about what a node can do with them together.
    """
    problems = []
    if not tasks:
        problems.append("there are no tasks; expected at least one")
    if len(tasks) > MAX_TASKS:
        problems.append(f"there are {len(tasks)} tasks; expected at most {MAX_TASKS}")
    kind_of_name: dict[str, str] = {}
    for standing in tasks:
        task = standing.task
        if isinstance(task, Ask):
            problems.append(
                f"task '{task.name}': kind 'ask' has no topic to be published on; expected ground, count or decide"
            )
        if standing.camera:
            problems.append(
                f"task '{task.name}': camera is '{standing.camera}'; this node has one camera: leave it empty"
            )
        # Several counts may share a name: one message asks for several classes under one name.
        if task.name in kind_of_name and {kind_of_name[task.name], task.KIND} != {"count"}:
            problems.append(f"task '{task.name}' is there twice; each name may stand once")
        kind_of_name[task.name] = task.KIND
    return problems


class TaskSchedule:
    """The standing tasks of one camera. `replace` may be called from any thread, the rest from the one that asks.

    Raises:
        TaskError: the tasks do not go together, see `check_standing_tasks`.
    """

    def __init__(self, tasks: Sequence[StandingTask]) -> None:
        self._lock = threading.Lock()
        self._tasks: tuple[StandingTask, ...] = ()
        self._next_ns: list[int] = []
        self._last_ns = 0
        self.replace(tasks)

    @property
    def tasks(self) -> tuple[StandingTask, ...]:
        """All tasks in the order they were given."""
        return self._tasks

    def replace(self, tasks: Sequence[StandingTask]) -> None:
        """Replace all tasks at once; the new ones are due on the next frame, those that stay keep their turn.

        Raises:
            TaskError: the tasks do not go together; nothing changes then.
        """
        problems = check_standing_tasks(tasks)
        if problems:
            raise TaskError("; ".join(problems))
        with self._lock:
            kept = dict(zip(self._tasks, self._next_ns, strict=True))
            self._tasks = tuple(tasks)
            self._next_ns = [kept.get(standing, 0) for standing in self._tasks]

    def any_due(self, stamp_ns: int) -> bool:
        """True if `take_due` would return something."""
        with self._lock:
            return bool(self._due(stamp_ns))

    def take_due(self, stamp_ns: int) -> list[tuple[StandingTask, ...]]:
        """The tasks that are due on a frame with this stamp, in groups of equal priority, highest first.

        A task with a rate becomes due one period after it was due last, so that it keeps its rate on average
        whatever the camera's is; periods that were missed are not made up for. A stamp that lies before the last one
        (the clock was reset) makes all tasks due.
        """
        with self._lock:
            if stamp_ns < self._last_ns:
                self._next_ns = [0] * len(self._tasks)
            due = self._due(stamp_ns)
            self._last_ns = stamp_ns
            for index in due:
                period_ns = _period_ns(self._tasks[index])
                on_time = stamp_ns < self._next_ns[index] + period_ns
                self._next_ns[index] = (self._next_ns[index] if on_time else stamp_ns) + period_ns
            tasks = sorted((self._tasks[index] for index in due), key=lambda standing: -standing.priority)
        return [tuple(group) for _, group in groupby(tasks, key=lambda standing: standing.priority)]

    def _due(self, stamp_ns: int) -> list[int]:
        if stamp_ns < self._last_ns:
            return list(range(len(self._tasks)))
        return [
            index
            for index, standing in enumerate(self._tasks)
            if stamp_ns >= self._next_ns[index] - _SLACK * _period_ns(standing)
        ]


def _period_ns(standing: StandingTask) -> int:
    return round(1e9 / standing.rate_hz) if standing.rate_hz else 0
