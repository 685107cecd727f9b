"""One frame that the engine was asked about: which answers are there, and what is published together. No rclpy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.ticket import Ticket
from exaone_ros.errors import EngineBusy, EngineError
from exaone_ros.ros.camera import Camera, CameraFrame
from exaone_ros.ros.freshness import Freshness
from exaone_ros.ros.schedule import runs_beside
from exaone_ros.tasks import StandingTask


@dataclass(frozen=True)
class TimelyAnswer:
    """One task's answer on its way out.

    Attributes:
        answer: as the engine gave it.
        missed_deadline: the task's own deadline was over when the answer came.
    """

    answer: TaskAnswer
    missed_deadline: bool = False


@dataclass(frozen=True)
class Publication:
    """What was read from one frame and is published together.

    Attributes:
        frame: what was looked at.
        answers: one for each task asked.
        latency_ns: from taking the frame to the last of these answers.
        age_ns: now minus the frame's stamp, in the node's clock.
        camera: its name; empty for the only camera of a node that names none.
        before: answers about this frame that were published before these.
    """

    frame: CameraFrame
    answers: tuple[TimelyAnswer, ...]
    latency_ns: int
    age_ns: int
    camera: str = ""
    before: tuple[TimelyAnswer, ...] = ()


@dataclass(eq=False)
class Group:
    """Tasks whose answers are published together: of equal priority, or one that runs beside the others.

    Attributes:
        standing: the tasks.
        answers: theirs, as far as they are there.
        tickets: what was submitted for them.
        beside: the camera's next look does not wait for this group.
        cancelled: nobody wants its answers any more.
    """

    standing: tuple[StandingTask, ...]
    answers: dict[int, TaskAnswer] = field(default_factory=dict)
    tickets: list[Ticket] = field(default_factory=list)
    beside: bool = False
    cancelled: bool = False

    @property
    def complete(self) -> bool:
        """All answers are there."""
        return len(self.answers) == len(self.standing)

    @property
    def in_order(self) -> list[TaskAnswer]:
        """The answers in the order of the tasks."""
        return [self.answers[index] for index in range(len(self.standing))]

    def end_ns(self, stamp_ns: int, max_age_ns: int) -> list[int]:
        """Until when the answer to each task is of use, in the node's clock."""
        return [stamp_ns + min(max_age_ns, round(s.deadline_s * 1e9) or max_age_ns) for s in self.standing]

    def cancel(self) -> None:
        """Tell the engine that nobody waits any more; the answers still come, as cancelled."""
        if not self.cancelled:
            self.cancelled = True
            for ticket in self.tickets:
                ticket.cancel()


class Look:
    """A frame and the tasks that were asked about it.

    Args:
        camera: where it comes from.
        frame: what was looked at.
        due: the tasks, highest priority first.
        taken_s: when the frame was taken, on the clock of `time.perf_counter`.
        start_age_s: how old it was then.
        convert_s: how long its conversion to RGB took.
        restarts: of the engine, when it was asked.
    """

    def __init__(
        self,
        camera: Camera,
        frame: CameraFrame,
        due: Sequence[StandingTask],
        *,
        taken_s: float,
        start_age_s: float,
        convert_s: float,
        restarts: int = 0,
    ) -> None:
        self.camera, self.frame = camera, frame
        self.taken_s, self.start_age_s, self.convert_s = taken_s, start_age_s, convert_s
        self.restarts = restarts
        self.open = _groups(due)
        self.asked = {standing for group in self.open for standing in group.standing}
        """Tasks that have no answer yet."""
        self.refused: list[EngineError] = []
        """Why answers failed, as far as the engine is to blame."""
        self.published: list[tuple[StandingTask, TimelyAnswer]] = []
        """What has been published of it."""
        self.done = 0
        """Answers that did not fail by the engine."""

    @property
    def blocks(self) -> bool:
        """The next look has to wait for this one."""
        return any(not group.beside for group in self.open)

    @property
    def busy_s(self) -> float:
        """How long it has been worked on."""
        return time.perf_counter() - self.taken_s

    def of_before_reset(self, rule: Freshness, now_ns: int) -> bool:
        """The clock has gone back since: the camera has noticed, or, where no image has come, the clock says so."""
        return self.frame.epoch != self.camera.epoch or rule.ahead(self.frame.stamp_ns, now_ns)

    def settle(self, group: Group, index: int, answer: TaskAnswer) -> bool:
        """Take note of an answer; True where the group is complete by it."""
        group.answers[index] = answer
        self.asked.discard(group.standing[index])
        error = answer.error
        if answer.outcome is Outcome.FAILED and isinstance(error, EngineError) and not isinstance(error, EngineBusy):
            self.refused.append(error)
        else:
            self.done += 1
        if group.complete:
            self.open.remove(group)
        return group.complete


def _groups(due: Sequence[StandingTask]) -> list[Group]:
    groups: list[Group] = []
    for priority in dict.fromkeys(standing.priority for standing in due):
        alike = [standing for standing in due if standing.priority == priority]
        together = tuple(standing for standing in alike if not runs_beside(standing))
        if together:
            groups.append(Group(together))
        groups += [Group((standing,), beside=True) for standing in alike if runs_beside(standing)]
    return groups
