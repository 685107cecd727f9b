"""Typed results to messages, task messages to tasks and back. All of it without a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from builtin_interfaces.msg import Duration, Time
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from exaone_interfaces.msg import Answer as AnswerMessage
from exaone_interfaces.msg import Decision, ObjectCount, ObjectCounts
from exaone_interfaces.msg import Task as TaskMessage
from exaone_ros.engine.sequence import Outcome
from exaone_ros.errors import TaskError
from exaone_ros.ros.camera import CameraFrame
from exaone_ros.ros.look import Publication, TimelyAnswer
from exaone_ros.tasks import Answer, Ask, Count, Counted, Decide, Decided, Grounding, StandingTask, task_from_dict
from exaone_ros.tasks.base import shown

Result = TypeVar("Result", Grounding, Counted)

_OUTCOMES = {
    Outcome.DONE: Decision.OUTCOME_DONE,
    Outcome.BUDGET: Decision.OUTCOME_BUDGET,
    Outcome.DEADLINE: Decision.OUTCOME_DEADLINE,
    Outcome.CANCELLED: Decision.OUTCOME_CANCELLED,
    Outcome.FAILED: Decision.OUTCOME_FAILED,
}


def time_to_ns(time: Time) -> int:
    """A stamp as nanoseconds."""
    return time.sec * 1_000_000_000 + time.nanosec


def ns_to_time(nanoseconds: int) -> Time:
    """Nanoseconds since the epoch (>= 0) as a stamp."""
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def ns_to_duration(nanoseconds: int) -> Duration:
    """Nanoseconds as a duration; may be negative."""
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)
    return Duration(sec=sec, nanosec=nanosec)


def header_of(publication: Publication) -> Header:
    """The header of the image that was looked at: answers carry it unchanged."""
    return header_of_frame(publication.frame)


def header_of_frame(frame: CameraFrame) -> Header:
    """The header of an image."""
    return Header(stamp=ns_to_time(frame.stamp_ns), frame_id=frame.frame_id)


def detections_message(publication: Publication) -> Detection2DArray | None:
    """The located objects of all ground tasks that were answered; an empty list says that nothing was seen.

    Tasks of other priorities may have been answered before on the same image: their objects stand first, so that the
    newest message on an image holds all that is known of it.
    Boxes are in pixels of the source image. `id` is ``<task>/<number>``, so that the tasks can be told apart; a score
    is NaN where the engine gives no probabilities. None where no ground task was answered: that is not the same as
    empty.
    """
    header = header_of(publication)
    answered = _results(publication.answers, Grounding)
    if not answered:
        return None
    message = Detection2DArray(header=header)
    for task, grounding in (*_results(publication.before, Grounding), *answered):
        for number, found in enumerate(grounding.detections):
            message.detections.append(
                detection_message(header, f"{task}/{number}", found.label, found.box, found.score)
            )
    return message


def detection_message(
    header: Header, identity: str, label: str, box: tuple[float, float, float, float], score: float
) -> Detection2D:
    """One detection: box (x1, y1, x2, y2) in pixels of the image, score 0..1."""
    x1, y1, x2, y2 = box
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = label, float(score)
    detection = Detection2D(header=header, id=identity, results=[hypothesis])
    detection.bbox.center.position.x, detection.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    detection.bbox.size_x, detection.bbox.size_y = float(x2 - x1), float(y2 - y1)
    return detection


def box_of(detection: Detection2D) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) in pixels of a published detection."""
    x, y = detection.bbox.center.position.x, detection.bbox.center.position.y
    half_width, half_height = detection.bbox.size_x / 2, detection.bbox.size_y / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def counts_message(publication: Publication) -> ObjectCounts | None:
    """All counts that were answered; None where no count task was.

    As with boxes, counts of other priorities that were published before on the same image stand first. Each entry names
    its task: one that is not there was not asked of this image, or not answered in time.
    """
    answered = _results(publication.answers, Counted)
    if not answered:
        return None
    return ObjectCounts(
        header=header_of(publication),
        counts=[
            ObjectCount(task=task, label=counted.label, count=counted.count, probability=float(counted.probability))
            for task, counted in (*_results(publication.before, Counted), *answered)
        ],
        latency=ns_to_duration(publication.latency_ns),
        age=ns_to_duration(publication.age_ns),
    )


def decision_messages(publication: Publication) -> list[Decision]:
    """One message for each decision that was asked for, answered or not: the outcome says which."""
    return [
        _decision(publication, timely, timely.answer.task)
        for timely in publication.answers
        if isinstance(timely.answer.task, Decide)
    ]


def _decision(publication: Publication, timely: TimelyAnswer, task: Decide) -> Decision:
    answer = timely.answer
    message = Decision(
        header=header_of(publication),
        task=task.name,
        instruction=task.instruction,
        options=list(task.options),
        outcome=Decision.OUTCOME_DEADLINE if timely.missed_deadline else _OUTCOMES[answer.outcome],
        latency=ns_to_duration(publication.latency_ns),
        age=ns_to_duration(publication.age_ns),
    )
    if isinstance(answer.result, Decided):
        message.choice = answer.result.choice
        message.probabilities = [float(p) for p in answer.result.probabilities]
        message.reason, message.reasoning = answer.result.reason, answer.result.reasoning
    message.message = _detail(timely)
    return message


def answer_messages(publication: Publication) -> list[AnswerMessage]:
    """One message for each question that was asked in words, answered or not: the outcome says which."""
    made = []
    for timely in publication.answers:
        task, answer = timely.answer.task, timely.answer
        if not isinstance(task, Ask):
            continue
        message = AnswerMessage(
            header=header_of(publication),
            task=task.name,
            question=task.question,
            outcome=Decision.OUTCOME_DEADLINE if timely.missed_deadline else _OUTCOMES[answer.outcome],
            message=_detail(timely),
            latency=ns_to_duration(publication.latency_ns),
            age=ns_to_duration(publication.age_ns),
        )
        if isinstance(answer.result, Answer):
            message.text, message.reasoning = answer.result.text, answer.result.reasoning
        made.append(message)
    return made


def _detail(timely: TimelyAnswer) -> str:
    """In words why an answer is not what was hoped for; empty where it is."""
    answer = timely.answer
    if answer.error is not None:
        return str(answer.error)
    if timely.missed_deadline:
        return "the answer came after the task's deadline"
    if answer.outcome is Outcome.DEADLINE:
        return "the deadline came before the answer was complete"
    if answer.outcome is Outcome.BUDGET:
        return "a budget was reached: the reasoning was made to conclude, or the answer ends there"
    return "the answer was not finished" if answer.outcome is Outcome.CANCELLED else ""


def _results(answers: Sequence[TimelyAnswer], kind: type[Result]) -> list[tuple[str, Result]]:
    """(task name, result) of each task that was answered in time with a result of this kind."""
    return [
        (timely.answer.task.name, timely.answer.result)
        for timely in answers
        if isinstance(timely.answer.result, kind) and not timely.missed_deadline
    ]


def tasks_from_message(message: TaskMessage) -> tuple[StandingTask, ...]:
    """The standing tasks that a message asks for: one, or one for each class to be counted (under the same name).

    Raises:
        TaskError: an unknown kind, a field that this kind does not read but that is set, or a value that is refused.
    """
    data: dict[str, object] = {
        "name": message.name,
        "kind": message.kind,
        "language": message.language or "en",
        "thinking": message.thinking,
        "rate": _exact(message.rate),
        "priority": message.priority,
        "deadline": _exact(message.deadline),
        "camera": message.camera,
    }
    if message.thinking_budget:
        data["thinking_budget"] = message.thinking_budget
    read = {"ground": {"classes"}, "count": {"classes"}, "decide": {"instruction", "options"}}
    read["ask"] = {"instruction", "max_tokens"}
    for field in ("classes", "instruction", "options", "max_tokens"):
        if getattr(message, field) and field not in read.get(message.kind, {field}):
            called = shown(message.name)
            raise TaskError(f"task {called}: a {message.kind} task does not read '{field}'; leave it empty")
    if message.kind == "ground":
        return (task_from_dict(data | {"classes": list(message.classes)}),)
    if message.kind == "count":
        labels = list(message.classes) or [""]
        return tuple(task_from_dict(data | {"label": label}) for label in labels)
    if message.kind == "decide":
        return (task_from_dict(data | {"instruction": message.instruction, "options": list(message.options)}),)
    if message.kind == "ask":
        budget = {"answer_tokens": message.max_tokens} if message.max_tokens else {}
        return (task_from_dict(data | {"question": message.instruction} | budget),)
    return (task_from_dict(data),)  # refuses the kind, with the reason


def tasks_to_messages(tasks: Iterable[StandingTask]) -> list[TaskMessage]:
    """The inverse of `tasks_from_message`: counts of one name that stand together become one message."""
    return [_task_message(list(group)) for _, group in groupby(tasks, key=lambda standing: standing.task.name)]


def _task_message(group: Sequence[StandingTask]) -> TaskMessage:
    standing, task = group[0], group[0].task
    message = TaskMessage(
        name=task.name,
        kind=task.KIND,
        language=task.language,
        thinking=task.thinking,
        thinking_budget=task.thinking_budget,
        rate=float(standing.rate_hz),
        priority=standing.priority,
        deadline=float(standing.deadline_s),
        camera=standing.camera,
    )
    if isinstance(task, Count):
        labels = [entry.task.label for entry in group if isinstance(entry.task, Count)]
        message.classes = [] if labels == [""] else labels
    elif isinstance(task, Decide):
        message.instruction, message.options = task.instruction, list(task.options)
    else:
        message.classes = list(getattr(task, "classes", ()))
        message.instruction = getattr(task, "question", "")
        message.max_tokens = getattr(task, "answer_tokens", 0)
    return message


def _exact(single: float) -> float:
    """A float32 field as it was meant: 0.1, not 0.10000000149."""
    return float(f"{single:.7g}")
