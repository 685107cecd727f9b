"""Results to messages without losing stamp, frame, emptiness or probability; tasks to messages and back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaone_interfaces.msg import Answer as AnswerMessage
from exaone_interfaces.msg import Decision
from exaone_interfaces.msg import Task as TaskMessage
from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.sequence import Outcome
from exaone_ros.errors import EngineError, TaskError
from exaone_ros.ros import messages
from exaone_ros.ros.camera import CameraFrame
from exaone_ros.ros.look import Publication, TimelyAnswer
from exaone_ros.tasks import (
    Answer,
    Ask,
    Count,
    Counted,
    Decide,
    Decided,
    Detection,
    Ground,
    Grounding,
    StandingTask,
)

S = 1_000_000_000
WAY = Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked"))
DECIDED = Decided("blocked", WAY.options, (0.25, 0.75), "a box", "I see a box.")


def publication(*answers: TimelyAnswer) -> Publication:
    frame = CameraFrame(message=None, stamp_ns=12 * S + 345, frame_id="camera")
    return Publication(frame, answers, latency_ns=S // 4, age_ns=2 * S + 5)


def done(task: object, result: object, **changes: object) -> TimelyAnswer:
    return TimelyAnswer(TaskAnswer(task, Outcome.DONE, result), **changes)  # type: ignore[arg-type]


def test_detections_of_all_ground_tasks_stand_in_one_message() -> None:
    box = (10.0, 20.0, 30.5, 60.0)
    message = messages.detections_message(
        publication(
            done(
                Ground(name="things"), Grounding((Detection("컵", box, 0.5), Detection("mug", (0, 0, 1, 1), math.nan)))
            ),
            done(Ground(name="people"), Grounding((Detection("person", (1, 2, 3, 4), 1.0),))),
            done(Count(name="number"), Counted("", 3, 0.5)),
        )
    )
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (12, 345, "camera")
    assert [found.id for found in message.detections] == ["things/0", "things/1", "people/0"]
    first = message.detections[0]
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (20.25, 40.0)
    assert (first.bbox.size_x, first.bbox.size_y) == (20.5, 40.0) and messages.box_of(first) == box
    assert first.results[0].hypothesis.class_id == "컵" and first.results[0].hypothesis.score == 0.5
    assert math.isnan(message.detections[1].results[0].hypothesis.score)
    assert all(found.header == message.header for found in message.detections)


def test_the_newest_message_of_an_image_holds_what_was_found_before() -> None:
    hazard = done(Ground(name="hazards"), Grounding((Detection("person", (1, 2, 3, 4), 1.0),)))
    counted = done(Count(name="number"), Counted("", 3, 0.5))
    later = replace(publication(done(Ground(name="things"), Grounding(()))), before=(hazard, counted))
    message = messages.detections_message(later)
    assert message is not None and [found.id for found in message.detections] == ["hazards/0"]
    assert messages.counts_message(later) is None
    assert messages.detections_message(replace(publication(counted), before=(hazard,))) is None


def test_counts_of_other_priorities_do_not_take_each_other_away() -> None:
    urgent = done(Count(name="people", label="person"), Counted("person", 1, 0.5))
    hazard = done(Ground(name="hazards"), Grounding(()))
    later = replace(publication(done(Count(name="mugs", label="mug"), Counted("mug", 0, 0.5))), before=(urgent, hazard))
    message = messages.counts_message(later)
    assert message is not None and [(c.task, c.count) for c in message.counts] == [("people", 1), ("mugs", 0)]
    missed = done(Count(name="people", label="person"), Counted("person", 1, 0.5), missed_deadline=True)
    message = messages.counts_message(replace(later, before=(missed,)))
    assert message is not None and [c.task for c in message.counts] == ["mugs"]


def test_empty_is_not_the_same_as_unanswered() -> None:
    task = Ground(name="things")
    empty = messages.detections_message(publication(done(task, Grounding(()))))
    assert empty is not None and len(empty.detections) == 0 and empty.header.frame_id == "camera"
    failed = TimelyAnswer(TaskAnswer(task, Outcome.FAILED, error=EngineError("no")))
    assert messages.detections_message(publication(failed)) is None
    assert messages.detections_message(publication(done(task, Grounding(()), missed_deadline=True))) is None
    assert messages.counts_message(publication(done(task, Grounding(())))) is None


def test_counts_keep_labels_probabilities_and_times() -> None:
    counts = publication(
        done(Count(name="all"), Counted("", 0, 0.875)),
        done(Count(name="mugs", label="mug"), Counted("mug", 4, math.nan)),
    )
    message = messages.counts_message(counts)
    assert [(c.task, c.label, c.count) for c in message.counts] == [("all", "", 0), ("mugs", "mug", 4)]
    assert message.counts[0].probability == 0.875 and math.isnan(message.counts[1].probability)
    assert (message.latency.sec, message.latency.nanosec) == (0, S // 4)
    assert (message.age.sec, message.age.nanosec) == (2, 5)


def test_a_decision_carries_all_that_was_decided() -> None:
    (message,) = messages.decision_messages(publication(done(WAY, DECIDED)))
    assert (message.task, message.instruction) == ("way", "Is the way clear?")
    assert (message.choice, message.reason, message.reasoning) == ("blocked", "a box", "I see a box.")
    assert list(message.options) == ["clear", "blocked"] and list(message.probabilities) == [0.25, 0.75]
    assert (message.outcome, message.message) == (Decision.OUTCOME_DONE, "")
    assert message.header.stamp.nanosec == 345 and message.age.sec == 2


@pytest.mark.parametrize(
    ("timely", "outcome", "choice", "words"),
    [
        (TimelyAnswer(TaskAnswer(WAY, Outcome.BUDGET, DECIDED)), Decision.OUTCOME_BUDGET, "blocked", "budget"),
        (done(WAY, DECIDED, missed_deadline=True), Decision.OUTCOME_DEADLINE, "blocked", "deadline"),
        (TimelyAnswer(TaskAnswer(WAY, Outcome.CANCELLED)), Decision.OUTCOME_CANCELLED, "", "not finished"),
        (
            TimelyAnswer(TaskAnswer(WAY, Outcome.CANCELLED), missed_deadline=True),
            Decision.OUTCOME_DEADLINE,
            "",
            "deadline",
        ),
        (
            TimelyAnswer(TaskAnswer(WAY, Outcome.FAILED, error=EngineError("the logits are NaN"))),
            Decision.OUTCOME_FAILED,
            "",
            "NaN",
        ),
    ],
)
def test_a_decision_that_did_not_go_well_says_so(timely: TimelyAnswer, outcome: int, choice: str, words: str) -> None:
    (message,) = messages.decision_messages(publication(timely))
    assert (message.outcome, message.choice) == (outcome, choice) and words in message.message


TASKS = [
    StandingTask(Ground(name="a", classes=("red cube", "컵"))),
    StandingTask(Ground(name="b"), rate_hz=0.1, priority=-3, deadline_s=0.7),
    StandingTask(Count(name="c", label="mug", language="ko")),
    StandingTask(Count(name="d")),
    StandingTask(Count(name="e", label="mug")),
    StandingTask(Count(name="e", label="ball")),
    StandingTask(Decide(name="f", instruction='Say "yes"?', options=("yes", "no"), thinking=True, thinking_budget=64)),
    StandingTask(Ask(name="g", question="Why?", answer_tokens=12), camera="left"),
]


def test_tasks_survive_the_way_through_messages() -> None:
    sent = messages.tasks_to_messages(TASKS)
    assert [message.name for message in sent] == ["a", "b", "c", "d", "e", "f", "g"]
    assert list(sent[4].classes) == ["mug", "ball"] and list(sent[3].classes) == []
    assert [standing for message in sent for standing in messages.tasks_from_message(message)] == TASKS


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "guess"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"kind": "decide", "instruction": "Well?", "options": ["one"]}, "options"),
        ({"kind": "decide", "options": ["yes", "no"]}, "instruction"),
        ({"kind": "ground", "options": ["yes", "no"]}, "does not read 'options'"),
        ({"kind": "count", "instruction": "How many?"}, "does not read 'instruction'"),
        (
            {"kind": "decide", "instruction": "Well?", "options": ["a", "b"], "classes": ["c"]},
            "does not read 'classes'",
        ),
        ({"kind": "ground", "language": "fr"}, "language"),
        ({"kind": "ground", "rate": -1.0}, "rate"),
        ({"kind": "ground", "rate": math.nan}, "rate"),
        ({"kind": "ground", "deadline": math.inf}, "deadline"),
        ({"kind": "ground", "classes": ["x\0y"]}, "control character"),
        ({"kind": "ask"}, "question"),
    ],
)
def test_a_task_message_that_makes_no_sense_is_refused_by_name(fields: dict[str, object], words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        messages.tasks_from_message(TaskMessage(name="mine", **fields))
    assert "mine" in str(caught.value)


@pytest.mark.parametrize("fields", [{"kind": "x" * 10**5}, {"name": "x" * 10**5, "kind": "count", "instruction": "?"}])
def test_a_huge_text_in_a_task_message_is_told_in_short(fields: dict[str, object]) -> None:
    with pytest.raises(TaskError) as caught:
        messages.tasks_from_message(TaskMessage(**fields))
    assert len(str(caught.value)) < 300


@given(st.integers(0, 2**31 * S - 1))
def test_stamps_are_exact(nanoseconds: int) -> None:
    assert messages.time_to_ns(messages.ns_to_time(nanoseconds)) == nanoseconds


@given(st.integers(-(2**31) * S, 2**31 * S - 1))
def test_durations_may_be_negative(nanoseconds: int) -> None:
    duration = messages.ns_to_duration(nanoseconds)
    assert duration.sec * S + duration.nanosec == nanoseconds


def test_answers_in_words_say_how_they_ended() -> None:
    ask = Ask(name="words", question="What is there?", thinking=True)
    made = messages.answer_messages(
        publication(
            done(ask, Answer("a mug", "I see a mug.")),
            TimelyAnswer(TaskAnswer(ask, Outcome.BUDGET, Answer("a m"))),
            TimelyAnswer(TaskAnswer(ask, Outcome.DEADLINE), missed_deadline=True),
            TimelyAnswer(TaskAnswer(ask, Outcome.FAILED, error=EngineError("no memory"))),
            done(WAY, DECIDED),
        )
    )
    assert [message.outcome for message in made] == [
        AnswerMessage.OUTCOME_DONE,
        AnswerMessage.OUTCOME_BUDGET,
        AnswerMessage.OUTCOME_DEADLINE,
        AnswerMessage.OUTCOME_FAILED,
    ]
    assert (made[0].text, made[0].reasoning, made[0].message) == ("a mug", "I see a mug.", "")
    assert made[0].header.stamp.sec == 12 and made[0].latency.nanosec == S // 4
    assert made[1].text == "a m" and "budget" in made[1].message and made[3].message == "no memory"
