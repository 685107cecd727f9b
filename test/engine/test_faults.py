"""Whatever call of the backend fails, and whenever somebody stops waiting: the rest goes on, nothing is left behind."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from engine.strict_backend import IMAGE_TOKEN, Content, StrictBackend
from numpy.typing import NDArray

from exaone_ros.engine.answers import FrameAnswers, TaskAnswer
from exaone_ros.engine.engine import Engine
from exaone_ros.engine.job import Job
from exaone_ros.engine.request import Picture, Request
from exaone_ros.engine.scheduler import Scheduler, Scheduling
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.speculation import CHEAP
from exaone_ros.engine.timings import Meter
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineError, ExaoneError
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.config import ModelConfig
from exaone_ros.tasks import Ask, Count, Decide, Task

TASKS: list[Task] = [
    Count(label="mugs"),
    Decide(name="way", instruction="Is the way clear?", options=("yes", "no", "person"), reason=False),
    Decide(name="stop", instruction="Stop?", options=("yes", "no"), thinking=True, thinking_budget=12, reason=False),
    Ask(name="what", question="What is this?", answer_tokens=8),
]


def habitual(vocab: int) -> Callable[[Content], NDArray[np.float32]]:
    """A model of habits: the last token says much of the next, so that drafts come true, and the picture the rest."""
    after = np.random.default_rng(0).normal(0, 3, (vocab, vocab)).astype(np.float32)

    def model(content: Content) -> NDArray[np.float32]:
        last = content[-1] if isinstance(content[-1], int) else zlib.crc32(content[-1]) % vocab
        seed = zlib.crc32(repr(content[:90]).encode())
        row: NDArray[np.float32] = after[last]
        return row + np.random.default_rng(seed).normal(0, 0.6, vocab).astype(np.float32)

    return model


MODEL = habitual(1792)


@dataclass
class Failing(StrictBackend):
    """One whose calls of every kind are counted; that of number `fails` raises."""

    model: Callable[[Content], NDArray[np.float32]] | None = field(default_factory=lambda: MODEL)
    done: int = 0
    fails: int | None = None

    def encode(self, image: NDArray[np.uint8]) -> Any:
        self._next("encode")
        return super().encode(image)

    def run(self, rows: Any) -> Any:
        self._next("run")
        return super().run(rows)

    def copy(self, *arguments: Any) -> None:
        self._next("copy")
        super().copy(*arguments)

    def _next(self, kind: str) -> None:
        self.done += 1
        if self.done - 1 == self.fails:
            raise MemoryError(f"in {kind}")


@pytest.fixture(scope="module")
def prompts(model_dir: Any) -> PromptEncoder:
    return PromptEncoder.open(model_dir, ModelConfig.read(model_dir))


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def content(answer: TaskAnswer) -> tuple[object, ...]:
    return answer.outcome, answer.result, answer.text, answer.reasoning, answer.tokens


def contents(answers: FrameAnswers) -> list[tuple[object, ...]]:
    return [content(answer) for answer in answers.answers]


def assert_nothing_is_left(scheduler: Scheduler, slots: int) -> None:
    assert not scheduler.live and scheduler.heads.held_slots == 0
    while scheduler.heads.evict():
        pass
    assert scheduler._slots.free == tuple(range(slots))


@pytest.mark.parametrize("slots", [2, 5])
def test_after_any_call_that_failed_the_next_frame_is_answered_as_ever(
    prompts: PromptEncoder, table: TokenTable, slots: int
) -> None:
    def engine(slots: int) -> tuple[Engine, Failing]:
        backend = Failing(slots=slots)
        settings = Scheduling(prefill_tokens=64)
        return Engine(backend, prompts, table, IMAGE_TOKEN, scheduling=settings, speculation=CHEAP), backend

    frames = [picture(seed) for seed in range(4)]
    fresh = [contents(engine(6)[0].answer(frame, TASKS)) for frame in frames]
    tried, backend = engine(slots)
    for frame in frames[:3]:  # habits are learnt
        tried.answer(frame, TASKS)
    before = backend.done
    drafts = tried.answer(frames[3], TASKS).timings.tokens_drafted
    assert drafts, "nothing was guessed"
    failed = 0
    for call in range(backend.done - before):
        backend.fails = backend.done + call
        try:
            found = tried.answer(frames[call % 3], TASKS).answers
            assert all(answer.outcome in (Outcome.DONE, Outcome.BUDGET, Outcome.FAILED) for answer in found)
            errors = [answer.error for answer in found if answer.error is not None]
        except ExaoneError as error:
            errors = [error]
        assert all(isinstance(error, EngineError) and "in " in str(error) for error in errors)
        failed += bool(errors)
        backend.fails = None
        assert contents(tried.answer(frames[3], TASKS)) == fresh[3], f"behind a failure of call {call}"
    assert failed > 5
    assert_nothing_is_left(tried._scheduler, slots)


@pytest.mark.parametrize("slots", [3])
def test_whenever_a_question_is_cancelled_the_others_are_answered_as_ever(
    prompts: PromptEncoder, table: TokenTable, slots: int
) -> None:
    def run(slots: int, cancelled: int | None = None, at: int = 0) -> tuple[list[tuple[object, ...]], int]:
        scheduler = Scheduler(Failing(slots=slots), prompts, table, IMAGE_TOKEN, speculation=CHEAP)
        answers: dict[int, TaskAnswer] = {}
        meter, steps, jobs = Meter(), 0, []
        for number, task in enumerate(TASKS):
            shown = Picture(frames[number % 2], key=number % 2)
            jobs.append(
                Job(Request(task, (shown,), priority=number % 2), lambda a, n=number: answers.update({n: a}), 0.0)
            )
            scheduler.add(jobs[-1])
        while scheduler.live:
            assert steps < 500, "no end"
            if cancelled is not None and steps == at:
                jobs[cancelled].cancelled = True
            scheduler.step(meter)
            steps += 1
        assert_nothing_is_left(scheduler, slots)
        return [content(answers[number]) for number in range(len(TASKS))], steps

    frames = [picture(seed) for seed in range(2)]
    fresh, steps = run(slots)
    for at in range(steps):
        one = at % len(TASKS)
        found, _ = run(slots, one, at)
        assert found[one][0] is Outcome.CANCELLED or found[one] == fresh[one]
        assert found[:one] + found[one + 1 :] == fresh[:one] + fresh[one + 1 :], f"{TASKS[one].name} at step {at}"
