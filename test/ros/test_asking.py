"""Questions beside the standing tasks: they wait for frames, stream, end with a reason, and bother nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine, GatedEngine
from worker_bench import PATIENCE_S, TASKS, Bench, S, bench

from exaone_ros.engine.request import Request
from exaone_ros.engine.ticket import Ticket
from exaone_ros.ros import engine_keeper
from exaone_ros.ros.asking import AskRefused, OpenQuestion, Question, Reply
from exaone_ros.ros.pixels import UnusableImage
from exaone_ros.tasks import Ask, Count, Decide

WORDS = Ask(name="words", question="What is there?")
RED = np.full((4, 4, 3), (255, 0, 0), np.uint8)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_keeper, "RETRY_S", 0.01)


class Asked:
    """A question and what came of it."""

    def __init__(self, b: Bench, task: Any = WORDS, *cameras: str, deadline_s: float = PATIENCE_S) -> None:
        self.b, self.text, self.reasoning = b, "", ""
        self.replies: list[Reply] = []
        question = Question(task, cameras or (next(iter(b.cameras)),), deadline_s)
        self.open: OpenQuestion = b.asker.ask(question, self._on_text, self._on_reply)

    def _on_text(self, text: str, reasoning: bool) -> None:
        self.reasoning += text * reasoning
        self.text += text * (not reasoning)
        self.b.notify()

    def _on_reply(self, reply: Reply) -> None:
        self.replies.append(reply)
        self.b.notify()

    def reply(self) -> Reply:
        self.b.wait_for(lambda: self.replies, "a reply")
        (reply,) = self.replies
        return reply


def until(b: Bench, condition: Callable[[], Any], offer: Callable[[], None]) -> None:
    """Let images come until a condition holds."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        b.now_ns += S // 100
        offer()
        with b.changed:
            b.changed.wait_for(condition, 0.05)


def test_an_answer_comes_with_its_frame_and_its_text_before_it() -> None:
    with bench(tasks=TASKS[:1]) as b:
        b.offer(RED, stamp_ns=b.now_ns - S // 4)
        asked = Asked(b, Ask(name="words", question="What?", thinking=True))
        reply = asked.reply()
    assert (reply.reason, reply.message) == ("none", "")
    assert (asked.text, asked.reasoning) == ("I see 1 red of 1", "well, red?")
    assert reply.answer is not None and reply.answer.text == asked.text
    assert [frame.stamp_ns for frame in reply.frames] == [1000 * S - S // 4]
    assert reply.age_ns == S // 4 and reply.latency_s > 0


def test_a_question_shares_the_picture_of_the_standing_tasks() -> None:
    engine = GatedEngine()
    with bench(engine, tasks=TASKS[:1]) as b:
        b.offer()
        engine.wait_entered(1)
        Asked(b)
        engine.wait_entered(2)
        assert engine.entered[0].pictures[0] is engine.entered[1].pictures[0]


def test_standing_tasks_go_on_while_questions_are_open() -> None:
    engine = GatedEngine()
    with bench(engine, tasks=TASKS[:1], max_age_s=60.0) as b:
        b.offer()
        engine.wait_entered(1)
        questions = [Asked(b), Asked(b, Count(name="number"))]
        engine.wait_entered(3)
        engine.let(1)
        b.wait("frames.answered")
        b.now_ns += S // 10
        b.offer()
        engine.wait_entered(4)  # the next look, with both questions still open
        assert not any(question.replies for question in questions) and b.asker.open == 2
        engine.open()
        assert [question.reply().reason for question in questions] == ["none", "none"]


def test_it_waits_for_a_fresh_frame_and_survives_bad_ones() -> None:
    with bench(tasks=TASKS[:1]) as b:
        asked = Asked(b)
        b.offer(stamp_ns=b.now_ns - 5 * S)
        b.wait("dropped.stale")
        b.now_ns += S // 100
        b.offer(UnusableImage("wrong_step", "fault"))
        b.wait("bad.wrong_step")
        assert not asked.replies
        b.now_ns += S // 100
        b.offer(RED)
        assert asked.reply().reason == "none"


@pytest.mark.parametrize("image", [None, UnusableImage("wrong_step", "fault")])
def test_without_a_frame_it_ends_with_that_reason(image: Any) -> None:
    with bench(tasks=TASKS[:1]) as b:
        if image is not None:
            b.offer(image)
        reply = Asked(b, deadline_s=0.05).reply()
    assert reply.reason == "no_fresh_frame" and ("fault" in reply.message) == (image is not None)
    assert reply.frames == () and reply.answer is None


def test_an_image_of_before_a_reset_of_the_clock_is_not_asked_about() -> None:
    with bench(tasks=TASKS[:1]) as b:
        b.offer(RED)
        b.wait("frames.answered")
        b.now_ns = 1 * S  # the simulator was reset, and has shown nothing since
        assert Asked(b, deadline_s=0.05).reply().reason == "no_fresh_frame"
        asked = Asked(b)
        b.offer(RED)
        assert [frame.stamp_ns for frame in asked.reply().frames] == [1 * S]


def test_the_deadline_ends_it() -> None:
    with bench(FakeEngine(delay_s=PATIENCE_S), tasks=TASKS[:1]) as b:
        b.offer()
        reply = Asked(b, deadline_s=0.2).reply()
    assert reply.reason == "deadline" and len(reply.frames) == 1


def test_it_can_be_cancelled_before_and_after_it_is_asked() -> None:
    engine = GatedEngine()
    with bench(engine, tasks=TASKS[:1]) as b:
        early = Asked(b)
        early.open.cancel()
        assert early.reply().reason == "cancelled"
        b.offer()
        late = Asked(b)
        engine.wait_entered(2)
        late.open.cancel()
        assert late.reply().reason == "cancelled"
        assert b.asker.open == 0


def test_what_cannot_be_taken_is_refused_with_its_reason() -> None:
    with bench(tasks=TASKS[:1], max_asks=1) as b:
        with pytest.raises(AskRefused, match="'nose'; expected no name: the node has one camera") as refused:
            Asked(b, WORDS, "nose")
        assert refused.value.reason == "unknown_camera"
        open_one = Asked(b)
        with pytest.raises(AskRefused, match="1 questions") as refused:
            Asked(b)
        assert refused.value.reason == "busy"
    assert open_one.reply().reason == "inactive"
    with pytest.raises(AskRefused) as refused:
        Asked(b)
    assert refused.value.reason == "inactive"


def test_a_failing_engine_is_named() -> None:
    with bench(FakeEngine(dies_after=0), tasks=TASKS[:1]) as b:
        asked = Asked(b)
        until(b, lambda: asked.replies, b.offer)
        assert asked.reply().reason == "engine" and "told to fail" in asked.reply().message


def test_whatever_is_raised_ends_one_question_and_not_those_behind_it() -> None:
    class Defective(FakeEngine):
        def submit(self, request: Request) -> Ticket:
            if request.task.name == "words":
                raise RuntimeError("a bug")
            return super().submit(request)

    with bench(Defective(), tasks=TASKS[:1]) as b:
        asked = [Asked(b), Asked(b), Asked(b, Count(name="number"))]
        b.offer(KeyError("a picture that nobody foresaw"))
        b.wait("bad.unexpected")
        until(b, lambda: all(one.replies for one in asked), b.offer)
    assert [one.reply().reason for one in asked] == ["engine", "engine", "none"]
    assert asked[0].reply().message == "it could not be asked: RuntimeError: a bug"


def test_a_question_waits_for_an_engine_that_is_opened_anew() -> None:
    engines = [FakeEngine(refusal="it was closed behind everybody's back"), FakeEngine()]
    with bench(engines[1], tasks=TASKS[:1], restart_after=1, opener=lambda: engines.pop(0)) as b:
        asked = Asked(b)
        until(b, lambda: asked.replies, b.offer)
        assert asked.reply().reason == "none"
        assert b.keeper.restarts == 1 and b.total("engine.restarted") == 1


# --- several cameras


def test_images_of_several_cameras_are_those_that_were_taken_together() -> None:
    with bench(tasks=TASKS[:1], cameras=("left", "right")) as b:
        for offset_ns in (0, S // 10, 2 * S // 10):
            b.now_ns = 1000 * S + offset_ns
            b.offer(RED, camera="left")
        b.offer(stamp_ns=1000 * S + S // 10 + S // 100, camera="right")
        reply = Asked(b, Count(name="number"), "left", "right").reply()
    assert [frame.stamp_ns - 1000 * S for frame in reply.frames] == [S // 10, S // 10 + S // 100]
    assert reply.answer is not None and reply.answer.result.count == 1 and reply.age_ns == S // 10


def test_images_that_were_not_taken_together_are_refused_with_their_distance() -> None:
    task = Decide(name="same", instruction="The same?", options=("yes", "no"))
    with bench(tasks=TASKS[:1], cameras=("left", "right")) as b:
        b.offer(camera="left")
        b.offer(stamp_ns=b.now_ns - S // 2, camera="right")
        reply = Asked(b, task, "left", "right", deadline_s=0.1).reply()
        assert reply.reason == "not_synchronous" and "0.500 s apart" in reply.message
        lonely = Asked(b, task, "left", deadline_s=PATIENCE_S).reply()
        assert lonely.reason == "none"
