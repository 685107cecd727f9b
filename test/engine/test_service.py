"""Any thread asks an engine that has a thread of its own: tickets, listeners, refusals, hangs, the end."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from engine.strict_backend import IMAGE_TOKEN, StrictBackend

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.engine import Engine
from exaone_ros.engine.job import Job
from exaone_ros.engine.request import Picture, Request
from exaone_ros.engine.scheduler import Scheduler
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.service import EngineService
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineBusy, EngineError, EngineHung, ImageError, TaskError
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.config import ModelConfig
from exaone_ros.tasks import Ask, Count, Decide

LONG_S = 60.0
WAY = Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked"), reason=False)
WHY = Decide(name="why", instruction="Stop?", options=("yes", "no"), thinking=True, thinking_budget=20, reason=False)
Opener = Callable[..., EngineService]


@pytest.fixture(scope="module")
def prompts(model_dir: object) -> PromptEncoder:
    return PromptEncoder.open(model_dir, ModelConfig.read(model_dir))  # type: ignore[arg-type]


@pytest.fixture
def new_engine(prompts: PromptEncoder, table: TokenTable) -> Callable[[StrictBackend], Engine]:
    return lambda backend: Engine(backend, prompts, table, IMAGE_TOKEN)


@pytest.fixture
def serve(new_engine: Callable[[StrictBackend], Engine]) -> Iterator[Opener]:
    """Opens a service on a strict backend; all are closed at the end."""
    opened: list[EngineService] = []

    def serve(backend: StrictBackend | None = None, **settings: float) -> EngineService:
        opened.append(EngineService(new_engine(backend or StrictBackend()), **settings))  # type: ignore[arg-type]
        return opened[-1]

    yield serve
    for service in opened:
        service.close()


def picture(seed: int = 0) -> Picture:
    return Picture(np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8))


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is let go goes at once or never: rings are not found."""
    gc.disable()
    yield
    gc.enable()


class Gate:
    """Holds the backend before a call until it is opened."""

    def __init__(self, call: int) -> None:
        self._call = call
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, call: int) -> None:
        if call == self._call:
            self.reached.set()
            assert self.open.wait(LONG_S)


def test_answers_are_those_of_the_engine_asked_directly(serve: Opener, new_engine: Callable[..., Engine]) -> None:
    frame, tasks = picture(), [WAY, Count(label="mugs"), Ask(question="What?", answer_tokens=9), WHY]
    expected = new_engine(StrictBackend()).answer(frame.image, tasks).answers
    backend = StrictBackend()
    service = serve(backend)
    tickets = [service.submit(Request(task, (frame,))) for task in tasks]
    found = [ticket.result(LONG_S) for ticket in tickets]
    assert [(a.outcome, a.result, a.text, a.tokens) for a in found] == [
        (a.outcome, a.result, a.text, a.tokens) for a in expected
    ]
    assert backend.encoded == 1, "one look for all questions on a picture"
    assert all(ticket.done and ticket.age_s > 0 for ticket in tickets)
    assert service.open_requests == 0 and service.timings().decode_steps > 0


@pytest.mark.usefixtures("no_collector")
def test_a_picture_goes_with_its_last_asker_without_a_garbage_collection(serve: Opener) -> None:
    service, gone = serve(), threading.Event()
    frame = picture()
    weakref.finalize(frame.image, gone.set)
    answered: list[TaskAnswer] = []
    ticket = service.submit(Request(WAY, (frame,)))
    ticket.add_done_callback(partial(lambda own, answer: answered.append(answer), ticket))
    assert ticket.result(LONG_S).result is not None
    key = frame.key
    del ticket, frame
    assert gone.wait(LONG_S), "16 pictures and half of the slots are kept, but not the pixels"
    assert len(answered) == 1
    # The head that is kept for later questions knows the picture still.
    again = service.submit(Request(WAY, (Picture(picture(1).image, key),))).result(LONG_S)
    assert again.text == answered[0].text


def test_a_ticket_that_was_answered_can_still_be_cancelled(serve: Opener) -> None:
    ticket = serve().submit(Request(WAY, (picture(),)))
    answer = ticket.result(LONG_S)
    ticket.cancel()
    assert ticket.result(LONG_S) is answer and answer.outcome is Outcome.DONE


def test_a_later_question_on_a_picture_finds_its_head_ready(serve: Opener) -> None:
    backend, frame = StrictBackend(), picture()
    service = serve(backend)
    first = service.submit(Request(WAY, (frame,))).result(LONG_S)
    calls = len(backend.calls)
    again = service.submit(Request(WAY, (Picture(frame.image, key=frame.key),))).result(LONG_S)
    assert again.result == first.result
    assert backend.encoded == 1 and all(row.logits == 1 for rows in backend.calls[calls:] for row in rows)


def test_many_threads_ask_at_once(serve: Opener) -> None:
    service, frames = serve(StrictBackend(slots=3)), [picture(i) for i in range(3)]
    alone = [serve().submit(Request(WAY, (frame,))).result(LONG_S).result for frame in frames]
    found: dict[int, object] = {}

    def ask(thread: int) -> None:
        found[thread] = service.submit(Request(WAY, (frames[thread % 3],))).result(LONG_S).result

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert found == {i: alone[i % 3] for i in range(9)}


def test_text_is_streamed_in_whole_characters(serve: Opener) -> None:
    reasoning: list[str] = []
    text: list[str] = []
    threads: set[str] = set()

    def listen(piece: str) -> None:
        reasoning.append(piece)
        threads.add(threading.current_thread().name)

    request = Request(WHY, (picture(),), on_reasoning=listen, on_text=text.append)
    answer = serve().submit(request).result(LONG_S)
    assert "".join(reasoning) == answer.reasoning and len(reasoning) > 5
    assert "".join(text) == answer.text
    assert threads == {"engine"}


def test_a_listener_that_fails_is_not_called_again_and_harms_nothing(serve: Opener) -> None:
    calls: list[str] = []

    def listen(piece: str) -> None:
        calls.append(piece)
        raise ZeroDivisionError

    service = serve()
    answer = service.submit(Request(WAY, (picture(),), on_text=listen)).result(LONG_S)
    assert answer.outcome is Outcome.DONE and len(calls) == 1


def test_callbacks_get_the_answer_now_or_later(serve: Opener) -> None:
    gate, got = Gate(2), threading.Event()
    service = serve(StrictBackend(on_run=gate))
    ticket = service.submit(Request(WAY, (picture(),)))
    answers: list[object] = []

    def take(answer: object) -> None:
        answers.append(answer)
        got.set()

    ticket.add_done_callback(lambda answer: print(1 // 0))
    ticket.add_done_callback(take)
    gate.open.set()
    assert got.wait(LONG_S)
    ticket.add_done_callback(answers.append)
    assert answers == [ticket.result(LONG_S)] * 2


def test_cancelling_ends_one_request_and_not_the_others(serve: Opener) -> None:
    gate = Gate(4)
    service, frame = serve(StrictBackend(on_run=gate)), picture()
    long = Ask(question="?", answer_tokens=200)
    unwanted, wanted = service.submit(Request(long, (frame,))), service.submit(Request(WAY, (frame,)))
    assert gate.reached.wait(LONG_S)
    unwanted.cancel()
    with pytest.raises(TimeoutError, match="'ask' has no answer"):
        unwanted.result(timeout=0)
    gate.open.set()
    answer = unwanted.result(LONG_S)
    assert answer.outcome is Outcome.CANCELLED and answer.result is None
    assert wanted.result(LONG_S).outcome is Outcome.DONE
    unwanted.cancel()  # too late is fine


def test_a_full_service_refuses_by_name_or_displaces_what_is_less_important(serve: Opener) -> None:
    gate = Gate(0)
    service, frame = serve(StrictBackend(on_run=gate), max_open=2), picture()
    first = service.submit(Request(WAY, (frame,), priority=1))
    second = service.submit(Request(WAY, (frame,), priority=2))
    with pytest.raises(EngineBusy, match=r"'way' is refused: 2 requests are open, all of priority 1 or higher"):
        service.submit(Request(WAY, (frame,), priority=1))
    third = service.submit(Request(WAY, (frame,), priority=2))
    gate.open.set()
    displaced = first.result(LONG_S)
    assert displaced.outcome is Outcome.FAILED and isinstance(displaced.error, EngineBusy)
    assert "made room" in str(displaced.error)
    assert {second.result(LONG_S).outcome, third.result(LONG_S).outcome} == {Outcome.DONE}


def test_a_backend_that_raises_fails_what_it_ran_and_the_service_goes_on(serve: Opener) -> None:
    backend = StrictBackend(fail_at=3)
    service, frame = serve(backend), picture()
    answer = service.submit(Request(Ask(question="?", answer_tokens=50), (frame,))).result(LONG_S)
    assert answer.outcome is Outcome.FAILED and "out of memory" in str(answer.error)
    assert service.submit(Request(WAY, (frame,))).result(LONG_S).outcome is Outcome.DONE
    assert service.refusal == ""


def test_a_bad_image_or_task_fails_alone(serve: Opener) -> None:
    class Odd(Ask):
        def prompt(self) -> str:
            raise ZeroDivisionError

        @property
        def max_tokens(self) -> int:
            return 5

    service = serve()
    bad = service.submit(Request(WAY, (Picture(np.zeros((4, 4), np.uint8)),)))
    odd = service.submit(Request(Odd(question="?"), (picture(),)))
    good = service.submit(Request(WAY, (picture(),)))
    assert isinstance(bad.result(LONG_S).error, ImageError)
    assert "ZeroDivisionError" in str(odd.result(LONG_S).error)
    assert good.result(LONG_S).outcome is Outcome.DONE


def test_a_hang_is_named_and_everything_after_it_is_refused(serve: Opener) -> None:
    gate = Gate(1)
    backend = StrictBackend(on_run=gate)
    service, frame = serve(backend, hang_s=5.0), picture()
    tickets = [service.submit(Request(WAY, (frame,))) for _ in range(2)]
    assert gate.reached.wait(LONG_S)
    service._hang_s = 0.05  # from here on: the machine of the test may be slow before
    for ticket in tickets:
        answer = ticket.result(LONG_S)
        assert answer.outcome is Outcome.FAILED and isinstance(answer.error, EngineHung)
        assert "backend 'strict' has not returned" in str(answer.error)
    assert service.busy_s > 0
    with pytest.raises(EngineHung, match="'way' is refused"):
        service.submit(Request(WAY, (frame,)))
    assert service.close(timeout_s=0) is False and not backend.closed
    gate.open.set()
    assert service.close(LONG_S) and backend.closed
    assert tickets[0].result().error is tickets[1].result().error, "the answer stays what it was"


def test_a_listener_that_does_not_return_is_not_taken_for_the_backend(serve: Opener) -> None:
    heard, release = threading.Event(), threading.Event()

    def listen(piece: str) -> None:
        heard.set()
        assert release.wait(LONG_S)

    service = serve()
    ticket = service.submit(Request(WAY, (picture(),), on_text=listen))
    assert heard.wait(LONG_S)
    service._hang_s = 0.05
    error = ticket.result(LONG_S).error
    release.set()
    assert isinstance(error, EngineHung) and "a listener" in str(error) and "backend" not in str(error)


def test_close_during_decode_fails_what_is_open(serve: Opener) -> None:
    gate = Gate(3)
    backend = StrictBackend(on_run=gate)
    service, frame = serve(backend), picture()
    tickets = [service.submit(Request(Ask(question="?", answer_tokens=100), (frame,))) for _ in range(6)]
    assert gate.reached.wait(LONG_S)
    assert service.close(timeout_s=0) is False and not backend.closed
    gate.open.set()
    assert service.close(LONG_S) and service.close() and backend.closed
    assert len(backend.calls) == 4
    for ticket in tickets:
        assert ticket.result(0).outcome is Outcome.FAILED and "closed" in str(ticket.result(0).error)
    with pytest.raises(EngineError, match="closed"):
        service.submit(Request(WAY, (frame,)))


def test_the_engine_belongs_to_its_service(new_engine: Callable[..., Engine]) -> None:
    engine = new_engine(StrictBackend())
    with EngineService(engine) as service:
        with pytest.raises(EngineError, match="thread 'engine' is using the engine"):
            engine.answer(picture().image, [WAY])
        with pytest.raises(EngineError, match="using the engine"):
            EngineService(engine)
        assert service.engine is engine
        closing = threading.Thread(target=engine.close)
        closing.start()
        closing.join(LONG_S)
        assert not closing.is_alive(), "closing the engine ends the service"
    with pytest.raises(EngineError, match="closed"):
        EngineService(engine)


def test_callbacks_may_submit_and_close(serve: Opener) -> None:
    service, frame = serve(), picture()
    later: list[object] = []
    closed: list[bool] = []
    asked = threading.Event()

    def end(answer: object) -> None:
        later.append(answer)
        closed.append(service.close())
        asked.set()

    def next_question(answer: object) -> None:
        service.submit(Request(WAY, (frame,))).add_done_callback(end)

    service.submit(Request(WAY, (frame,))).add_done_callback(next_question)
    assert asked.wait(LONG_S)
    assert len(later) == 1 and closed == [False]
    assert service.close(LONG_S)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"task": "count"}, TaskError, "task is a str"),
        ({"pictures": ()}, ImageError, "0 pictures"),
        ({"pictures": [1]}, ImageError, "tuple of Picture"),
        ({"pictures": (Picture(np.zeros((1, 1, 3), np.uint8), key=[]),)}, TaskError, "hashable"),  # type: ignore[arg-type]
        ({"priority": 1001}, TaskError, "priority is 1001"),
        ({"priority": True}, TaskError, "priority is True"),
        ({"deadline_s": float("nan")}, TaskError, "deadline_s is nan"),
        ({"deadline_s": float("inf")}, TaskError, "deadline_s is inf"),
        ({"deadline_s": 10**400}, TaskError, "deadline_s is 1000"),
        ({"reasoning_s": -1.0}, TaskError, "reasoning_s is -1.0"),
        ({"on_text": 3}, TaskError, "on_text is 3"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Request(**{"task": WAY, "pictures": (picture(),), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"), [({"max_open": 0}, "max_open is 0"), ({"hang_s": 0.0}, "hang_s is 0")]
)
def test_a_service_with_senseless_settings_is_refused(serve: Opener, settings: dict[str, float], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        serve(**settings)
    with pytest.raises(EngineError, match="1 KV slot"):
        serve(StrictBackend(slots=1))


def test_what_is_no_image_under_a_known_key_fails_alone(serve: Opener) -> None:
    """Its head is there already, so that nobody looks at it before the answer is read."""
    service, frame = serve(), picture()
    first = service.submit(Request(WAY, (frame,))).result(LONG_S)
    beside = service.submit(Request(WHY, (frame,)))
    wrong = Picture("no image", key=frame.key)  # type: ignore[arg-type]
    answer = service.submit(Request(WAY, (wrong,))).result(LONG_S)
    assert answer.outcome is Outcome.FAILED and "could not read its answer" in str(answer.error)
    assert beside.result(LONG_S).outcome in (Outcome.DONE, Outcome.BUDGET)
    assert service.submit(Request(WAY, (frame,))).result(LONG_S).result == first.result
    assert service.open_requests == 0


def test_a_question_lost_in_a_defect_is_answered(serve: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken out of the scheduler before it was answered: its asker must not wait for ever."""

    def broken(*arguments: object) -> None:
        raise KeyError("a defect")

    service, frame = serve(), picture()
    with monkeypatch.context() as patch:
        patch.setattr(Job, "end", broken)
        answer = service.submit(Request(WAY, (frame,))).result(LONG_S)
        assert answer.outcome is Outcome.FAILED and "a step of the engine failed: KeyError" in str(answer.error)
    assert service.open_requests == 0
    assert service.submit(Request(WAY, (frame,))).result(LONG_S).outcome is Outcome.DONE


def test_a_deadline_that_is_over_is_named(serve: Opener) -> None:
    answer = serve().submit(Request(WAY, (picture(),), deadline_s=time.monotonic() - 1)).result(LONG_S)
    assert answer.outcome is Outcome.DEADLINE and answer.result is None and answer.error is None


def test_a_defect_of_the_scheduler_is_a_failure_and_not_a_stall(serve: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise KeyError("a defect")

    service, frame = serve(), picture()
    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "_prepare", broken)
        answer = service.submit(Request(WAY, (frame,))).result(LONG_S)
        assert answer.outcome is Outcome.FAILED and "a step of the engine failed: KeyError" in str(answer.error)
        patch.setattr(Scheduler, "abort", broken)
        assert "has ended" in str(service.submit(Request(WAY, (frame,))).result(LONG_S).error)
    with pytest.raises(EngineError, match="'way' is refused"):
        service.submit(Request(WAY, (frame,)))
