"""Which standing tasks are due on a frame, and in which order. Knows tasks and nanoseconds, no ROS."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

from exaone_ros.errors import TaskError
from exaone_ros.tasks import Ask, StandingTask
from exaone_ros.tasks.base import shown

MAX_TASKS = 256

EVERY_CAMERA = "*"
"""As a task's camera: it is asked of each of them."""

_SLACK = 0.1
"""Share of a period that a frame may come early: cameras jitter, and a 10 Hz task must not fall to 7.5 Hz at 30 Hz."""


def check_standing_tasks(tasks: Sequence[StandingTask], cameras: Sequence[str] = ("",)) -> list[str]:
    """Say what is wrong with a set of tasks, one line for each fault; empty where all is well.

    Each task is valid in itself already; this is about what a node can do with them together.

    Args:
        tasks: all of them.
        cameras: names of the node's cameras.
    """
    problems = []
    if not tasks:
        problems.append("there are no tasks; expected at least one")
    if len(tasks) > MAX_TASKS:
        problems.append(f"there are {len(tasks)} tasks; expected at most {MAX_TASKS}")
    kind_of_name: dict[str, str] = {}
    for standing in tasks:
        task = standing.task
        if standing.camera not in ("", EVERY_CAMERA, *cameras):
            known = [name for name in cameras if name]
            names = f"one of {', '.join(known)}, or {EVERY_CAMERA} for all" if known else "nothing: there is one camera"
            problems.append(f"task '{task.name}': camera is {shown(standing.camera)}; expected {names}")
        # Several counts may share a name: one message asks for several classes under one name.
        if task.name in kind_of_name and {kind_of_name[task.name], task.KIND} != {"count"}:
            problems.append(f"task '{task.name}' is there twice; each name may stand once")
        kind_of_name[task.name] = task.KIND
    return problems


def runs_beside(standing: StandingTask) -> bool:
    """True for a task that takes long: it reasons, or answers in words. The next look does not wait for it."""
    return standing.task.thinking or isinstance(standing.task, Ask)


class TaskSchedule:
    """The standing tasks of one camera. `replace` may be called from any thread, the rest from the one that asks."""

    def __init__(self, tasks: Sequence[StandingTask] = ()) -> None:
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
        """Replace all tasks at once; the new ones are due on the next frame, those that stay keep their turn."""
        with self._lock:
            kept = dict(zip(self._tasks, self._next_ns, strict=True))
            self._tasks = tuple(tasks)
            self._next_ns = [kept.get(standing, 0) for standing in self._tasks]

    def any_due(self, stamp_ns: int, asked: Collection[StandingTask] = (), *, overdue_only: bool = False) -> bool:
        """True if `take_due` would return something."""
        with self._lock:
            return bool(self._due(stamp_ns, asked, overdue_only))

    def take_due(
        self, stamp_ns: int, asked: Collection[StandingTask] = (), *, overdue_only: bool = False
    ) -> list[StandingTask]:
        """The tasks that are due on a frame with this stamp, highest priority first.

        A task with a rate becomes due one period after it was due last, so that it keeps its rate on average
        whatever the camera's is; periods that were missed are not made up for. A stamp that lies before the last one
        (the clock was reset) makes all tasks due.

        Args:
            stamp_ns: of the frame.
            asked: tasks whose last answer is not there yet; they are not asked again meanwhile.
            overdue_only: the engine is at another frame: only tasks that cannot wait for it, because half of their
                period would have passed.
        """
        with self._lock:
            due = self._due(stamp_ns, asked, overdue_only)
            if stamp_ns < self._last_ns:
                self._next_ns = [0] * len(self._tasks)
            self._last_ns = stamp_ns
            for index in due:
                period_ns = _period_ns(self._tasks[index])
                on_time = stamp_ns < self._next_ns[index] + period_ns
                self._next_ns[index] = (self._next_ns[index] if on_time else stamp_ns) + period_ns
            return sorted((self._tasks[index] for index in due), key=lambda standing: -standing.priority)

    def _due(self, stamp_ns: int, asked: Collection[StandingTask], overdue_only: bool) -> list[int]:
        reset = stamp_ns < self._last_ns
        due = []
        for index, standing in enumerate(self._tasks):
            if standing in asked:
                continue
            period_ns = _period_ns(standing)
            if overdue_only:
                is_due = period_ns > 0 and stamp_ns >= self._next_ns[index] + period_ns / 2
            else:
                is_due = reset or stamp_ns >= self._next_ns[index] - _SLACK * period_ns
            if is_due:
                due.append(index)
        return due


class TaskBoard:
    """The standing tasks of a node, dealt out to the schedules of its cameras. Any thread may call it.

    Args:
        tasks: see `replace`.
        cameras: their names, the first one being that of tasks which name none.

    Raises:
        TaskError: the tasks do not go together, see `check_standing_tasks`.
    """

    def __init__(self, tasks: Sequence[StandingTask], cameras: Sequence[str] = ("",)) -> None:
        self._lock = threading.Lock()
        self._cameras = tuple(cameras)
        self._tasks: tuple[StandingTask, ...] = ()
        self._schedules = {name: TaskSchedule() for name in self._cameras}
        self.replace(tasks)

    @property
    def tasks(self) -> tuple[StandingTask, ...]:
        """All tasks in the order they were given."""
        return self._tasks

    def schedule(self, camera: str) -> TaskSchedule:
        """The schedule of one camera."""
        return self._schedules[camera]

    def replace(self, tasks: Sequence[StandingTask]) -> None:
        """Replace the tasks of all cameras.

        Raises:
            TaskError: the tasks do not go together; nothing changes then.
        """
        problems = check_standing_tasks(tasks, self._cameras)
        if problems:
            raise TaskError("; ".join(problems))
        with self._lock:
            self._tasks = tuple(tasks)
            for name, schedule in self._schedules.items():
                own = {name, EVERY_CAMERA} | ({""} if name == self._cameras[0] else set())
                schedule.replace([standing for standing in tasks if standing.camera in own])


def _period_ns(standing: StandingTask) -> int:
    return round(1e9 / standing.rate_hz) if standing.rate_hz else 0
