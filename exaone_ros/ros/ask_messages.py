"""Goals of the action `ask` to questions, replies to results. All of it without a node."""

from __future__ import annotations

from exaone_interfaces.action import Ask
from exaone_ros.errors import TaskError
from exaone_ros.ros import messages
from exaone_ros.ros.asking import AskRefused, Question, Reply
from exaone_ros.tasks import Answer, Counted, Decided, Ground, Grounding
from exaone_ros.tasks.base import shown

MAX_CAMERAS = 16


def question_of(goal: Ask.Goal, first_camera: str, deadline_s: float) -> Question:
    """What a goal asks.

    Args:
        goal: as it came.
        first_camera: whose image is looked at where the goal names none.
        deadline_s: where the goal names none.

    Raises:
        AskRefused: the task is not valid, or cannot be asked like this.
    """
    try:
        asked = messages.tasks_from_message(goal.task)
    except TaskError as error:
        raise AskRefused("invalid_task", str(error)) from error
    standing = asked[0]
    if len(asked) != 1:
        name = standing.task.name
        raise AskRefused("invalid_task", f"task '{name}' counts {len(asked)} classes; a question counts one")
    if standing.rate_hz:
        raise AskRefused("invalid_task", f"rate is {standing.rate_hz:g}; a question is asked once: leave it 0")
    cameras = tuple(goal.cameras) or (standing.camera or first_camera,)
    if len(cameras) > MAX_CAMERAS or len(set(cameras)) != len(cameras):
        named = shown(list(cameras))
        raise AskRefused("invalid_task", f"cameras are {named}; expected 1 to {MAX_CAMERAS} different ones")
    if len(cameras) > 1 and isinstance(standing.task, Ground):
        raise AskRefused("invalid_task", "boxes are located in one image: name one camera, or ask another kind of task")
    return Question(standing.task, cameras, standing.deadline_s or deadline_s, standing.priority)


def result_of(reply: Reply) -> Ask.Result:
    """The action's result; what there is of an answer stands in it also where it is not complete."""
    result = Ask.Result(
        error_code=getattr(Ask.Result, f"ERROR_{reply.reason.upper()}"),
        error_msg=reply.message,
        headers=[messages.header_of_frame(frame) for frame in reply.frames],
        latency=messages.ns_to_duration(round(reply.latency_s * 1e9)),
        age=messages.ns_to_duration(reply.age_ns),
    )
    answer = reply.answer
    if answer is None:
        return result
    result.answer, result.reasoning, result.budget = answer.text, answer.reasoning, answer.outcome.value == "budget"
    found = answer.result
    if isinstance(found, Answer):
        result.answer = found.text
    elif isinstance(found, Decided):
        result.choice, result.reason, result.options = found.choice, found.reason, list(found.options)
        result.probabilities = [float(p) for p in found.probabilities]
    elif isinstance(found, Counted):
        result.labels, result.counts, result.scores = [found.label], [found.count], [float(found.probability)]
    elif isinstance(found, Grounding):
        result.labels = [detection.label for detection in found.detections]
        result.boxes = [float(edge) for detection in found.detections for edge in detection.box]
        result.scores = [float(detection.score) for detection in found.detections]
    return result
