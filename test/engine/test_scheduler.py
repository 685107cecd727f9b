"""Who gets the next call: priorities, sharing, slots, deadlines. Counted in calls of the backend, never in time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from engine.strict_backend import IMAGE_TOKEN, Content, StrictBackend, WindowedStrictBackend

from exaone_ros.engine.answers import TaskAnswer
from exaone_ros.engine.backends.ring import Ring
from exaone_ros.engine.job import Job
from exaone_ros.engine.pace import Pace
from exaone_ros.engine.request import Picture, Request
from exaone_ros.engine.scheduler import CREDIT_CALLS, Scheduler, Scheduling
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.timings import Meter
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineBusy, EngineError, ImageError, PromptTooLong, TaskError
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.config import ModelConfig
from exaone_ros.tasks import Ask, Count, Decide, Ground, Task

FAST = Decide(name="fast", instruction="Is the way clear?", options=("clear", "blocked", "person"), reason=False)
SLOW = Ask(name="slow", question="What is this?", answer_tokens=40)
THINKING = Decide(
    name="thinking", instruction="Stop?", options=("yes", "no"), thinking=True, thinking_budget=64, reason=False
)


@pytest.fixture(scope="module")
def prompts(model_dir: object) -> PromptEncoder:
    return PromptEncoder.open(model_dir, ModelConfig.read(model_dir))  # type: ignore[arg-type]


@dataclass
class Bench:
    """A scheduler on a strict backend whose every call takes one second of a clock of its own."""

    scheduler: Scheduler
    backend: StrictBackend
    now_s: list[float]
    answers: dict[str, TaskAnswer] = field(default_factory=dict)
    ended_at: dict[str, int] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)

    def ask(self, task: Task, *pictures: Picture, label: str = "", **urgency: object) -> Job:
        name = label or task.name

        def finished(answer: TaskAnswer) -> None:
            assert name not in self.answers, "answered twice"
            self.answers[name] = answer
            self.ended_at[name] = self.calls

        job = Job(Request(task, pictures or (picture(),), **urgency), finished, self.now_s[0])  # type: ignore[arg-type]
        self.scheduler.add(job)
        return job

    @property
    def calls(self) -> int:
        """Calls of the backend that take time."""
        return len(self.backend.calls) + self.backend.encoded

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.scheduler.step(self.meter)

    def run(self) -> dict[str, TaskAnswer]:
        """To the end; a scheduler that makes no progress fails the test."""
        for _ in range(3000):
            if not self.scheduler.live:
                return self.answers
            self.step()
        raise AssertionError("the scheduler does not come to an end")


Setup = Callable[..., Bench]


@pytest.fixture
def bench(prompts: PromptEncoder, table: TokenTable) -> Setup:
    def bench(backend: StrictBackend | None = None, **settings: int) -> Bench:
        backend, now_s = backend or StrictBackend(), [0.0]
        on_run = backend.on_run

        def tick(call: int) -> None:
            now_s[0] += 1.0
            on_run(call)

        backend.on_run = tick
        scheduler = Scheduler(
            backend, prompts, table, IMAGE_TOKEN, settings=Scheduling(**settings), clock=lambda: now_s[0]
        )
        return Bench(scheduler, backend, now_s)

    return bench


def picture(seed: int = 0) -> Picture:
    return Picture(np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8), key=seed)


def result(answer: TaskAnswer) -> Any:
    assert answer.result is not None
    return answer.result


def content(answer: TaskAnswer) -> tuple[object, ...]:
    return answer.outcome, answer.result, answer.text, answer.reasoning, answer.tokens


@pytest.fixture
def alone(bench: Setup) -> Callable[..., tuple[object, ...]]:
    """What a task is answered when nothing else is asked."""

    def alone(task: Task, *pictures: Picture) -> tuple[object, ...]:
        b = bench()
        b.ask(task, *pictures)
        return content(b.run()[task.name])

    return alone


@pytest.mark.parametrize("slow", [SLOW, THINKING])
@pytest.mark.parametrize("head_start", [0, 1, 2, 3, 9])
def test_a_fast_task_waits_for_the_call_under_way_and_for_nothing_else(
    bench: Setup, slow: Task, head_start: int
) -> None:
    undisturbed = bench()
    undisturbed.ask(FAST, picture(1), priority=5)
    undisturbed.run()
    needed = undisturbed.calls

    b = bench()
    b.ask(slow, picture(0))
    b.step(head_start)
    arrived_at = b.calls
    b.ask(FAST, picture(1), priority=5)  # arrives while the call before this line is under way, as it were
    b.run()
    assert b.ended_at["fast"] - arrived_at <= needed
    assert b.ended_at["slow" if slow is SLOW else "thinking"] > b.ended_at["fast"]


def test_what_arrives_while_a_picture_is_encoded_does_not_wait_for_the_decoder_s_step_behind_it(bench: Setup) -> None:
    for priority, also_decoded in ((None, 1), (0, 1), (5, 0)):
        b = bench()
        b.ask(SLOW, picture(0))
        b.step(9)
        b.ask(SLOW, picture(1), label="another")
        encoded, decoded = b.backend.encoded, len(b.backend.calls)
        b.scheduler.step(b.meter, lambda priority=priority: priority)  # type: ignore[misc]
        assert b.backend.encoded - encoded == 1
        assert len(b.backend.calls) - decoded == also_decoded
        b.ask(FAST, picture(0), priority=5)
        assert {answer.outcome for answer in b.run().values()} <= {Outcome.DONE, Outcome.BUDGET}
        assert b.ended_at["fast"] < min(b.ended_at["slow"], b.ended_at["another"])


def test_a_fast_task_on_full_slots_takes_one_and_both_answers_stay_what_they_are(
    bench: Setup, alone: Callable[..., tuple[object, ...]]
) -> None:
    b = bench(StrictBackend(slots=2))
    b.ask(THINKING, picture(0))
    b.step(9)
    calls = b.calls
    b.ask(FAST, picture(1), priority=1)
    b.run()
    assert b.ended_at["fast"] - calls <= 5
    assert content(b.answers["thinking"]) == alone(THINKING, picture(0))
    assert content(b.answers["fast"]) == alone(FAST, picture(1))


def test_equal_priorities_share_every_step(bench: Setup, alone: Callable[..., tuple[object, ...]]) -> None:
    b = bench()
    b.ask(SLOW, picture(0))
    b.step(8)
    b.ask(FAST, picture(0))
    b.step(1)
    assert len(b.backend.calls[-1]) == 2, "it joins the running batch at the next step"
    b.run()
    assert b.ended_at["fast"] < b.ended_at["slow"]
    assert content(b.answers["slow"]) == alone(SLOW, picture(0))
    assert content(b.answers["fast"]) == alone(FAST, picture(0))


def test_a_long_prompt_is_read_in_parts_between_the_others_steps(
    bench: Setup, alone: Callable[..., tuple[object, ...]]
) -> None:
    wordy = Ask(name="wordy", question="word " * 30, answer_tokens=4)
    b = bench(prefill_tokens=16)
    b.ask(SLOW, picture(0))
    while b.scheduler.live and not any(row.logits for rows in b.backend.calls for row in rows):
        b.step()
    b.step(3)
    (slow_slot,) = {row.slot for row in b.backend.calls[-1]}
    before = len(b.backend.calls)
    b.ask(wordy, picture(1))
    b.run()
    beside = b.backend.calls[before:]
    assert max(row.tokens.size for rows in beside for row in rows) <= 16
    until = max(i for i, rows in enumerate(beside) if any(row.slot == slow_slot for row in rows))
    turns = [any(row.slot == slow_slot for row in rows) for rows in beside[:until]]
    assert all(a or b for a, b in itertools.pairwise(turns)), "never two calls in a row without the other"
    assert content(b.answers["wordy"]) == alone(wordy, picture(1))
    assert content(b.answers["slow"]) == alone(SLOW, picture(0))


def test_a_paused_task_is_not_starved(bench: Setup, alone: Callable[..., tuple[object, ...]]) -> None:
    b = bench(starving_calls=4)
    b.ask(SLOW, picture(0))
    for i in range(200):
        if "slow" in b.answers:
            break
        b.ask(FAST, picture(0), label=f"fast {i}", priority=1)
        b.step(2)
    assert "slow" in b.answers
    b.run()
    assert content(b.answers["slow"]) == alone(SLOW, picture(0))


def test_what_a_task_got_in_the_gaps_keeps_it_out_of_a_frame(bench: Setup) -> None:
    b = bench(starving_calls=4)
    b.ask(SLOW, picture(0))
    b.step(CREDIT_CALLS + 6)  # alone, it decodes on and on
    (slow,) = {row.slot for row in b.backend.calls[-1]}
    b.ask(Ask(name="urgent", question="?", answer_tokens=60), picture(0), priority=1)
    before = len(b.backend.calls)
    waited = 0
    while slow not in {row.slot for row in b.backend.calls[-1]} or len(b.backend.calls) == before:
        assert "urgent" not in b.answers, "it starves"
        b.step()
        waited += 1
    assert waited > 4 * CREDIT_CALLS, "it was served although it had its share in advance"
    assert waited <= 4 * (CREDIT_CALLS + 1) + 1, "it waited for longer than its credit and one turn"
    # from now on nothing is left of its credit: one call for every four of others
    turns = []
    for _ in range(12):
        b.step()
        turns.append(slow in {row.slot for row in b.backend.calls[-1]})
    assert "urgent" not in b.answers
    assert [at for at, served in enumerate(turns) if served] == [4, 9]


def test_a_task_that_waited_long_for_a_slot_gets_its_share_and_not_all_that_it_missed(bench: Setup) -> None:
    b = bench(StrictBackend(slots=3), starving_calls=4)
    for name, tokens in (("short", 40), ("long", 90)):
        b.ask(Ask(name=name, question="?", answer_tokens=tokens), picture(0), priority=1)
    b.step(4)
    b.ask(SLOW, picture(0))
    while "short" not in b.answers:
        b.step()
    assert b.scheduler.live and "long" not in b.answers
    turns = []
    for _ in range(20):
        b.step()
        turns.append(len(b.backend.calls[-1]) == 2)
    assert "long" not in b.answers
    assert 3 <= sum(turns) <= 5, "one call for every four of others"


def test_with_equal_priority_the_earlier_deadline_gets_the_slot(bench: Setup) -> None:
    b = bench(StrictBackend(slots=2))
    for name, deadline_s in (("none", None), ("late", 900.0), ("soon", 500.0)):
        b.ask(Ask(name=name, question="?", answer_tokens=3), picture(0), deadline_s=deadline_s)
    b.run()
    assert sorted(b.ended_at, key=b.ended_at.__getitem__) == ["soon", "late", "none"]


def test_many_pictures_on_few_slots_take_turns(bench: Setup, alone: Callable[..., tuple[object, ...]]) -> None:
    for slots in (2, 3, 4):
        b = bench(StrictBackend(slots=slots))
        for seed in range(5):
            b.ask(FAST, picture(seed), label=f"{seed}", priority=seed % 2)
        answers = b.run()
        assert [content(answers[f"{seed}"]) for seed in range(5)] == [alone(FAST, picture(seed)) for seed in range(5)]
        assert b.backend.encoded == 5


def test_slots_held_by_others_are_a_refusal_and_not_a_stall(bench: Setup) -> None:
    b = bench(StrictBackend(slots=2))
    heads = [b.scheduler.heads.use((picture(seed),)) for seed in (7, 8)]
    for head in heads:
        b.scheduler.look(head, b.meter)
    b.ask(FAST, picture(1))
    b.ask(FAST, picture(7), label="ready")
    answers = b.run()
    for name in ("fast", "ready"):
        assert isinstance(answers[name].error, EngineBusy) and "2 are held by open frames" in str(answers[name].error)
    for head in heads:
        b.scheduler.heads.release(head)
    b.ask(FAST, picture(1), label="later")
    assert b.run()["later"].outcome is Outcome.DONE


def test_what_stands_before_the_first_picture_is_run_once_for_ever(bench: Setup) -> None:
    b = bench()
    for seed in range(6):
        b.ask(FAST, picture(seed), label=f"{seed}")
        b.run()
    starts = [row.start for rows in b.backend.calls for row in rows if not row.logits]
    assert starts[0] == 0 and len(set(starts[1:])) == 1 and starts[1] > 10


@pytest.mark.parametrize(("length", "lost"), [(12, True), (400, False)])
def test_a_beginning_that_sliding_windows_have_lost_is_run_again(
    bench: Setup, alone: Callable[..., tuple[object, ...]], length: int, lost: bool
) -> None:
    b = bench(WindowedStrictBackend(ring=Ring(window=8, chunk=length - 8, length=length)))
    for seed in range(4):
        b.ask(FAST, picture(seed), label=f"fast{seed}")
        b.ask(THINKING, picture(seed), label=f"thinking{seed}")
        b.run()
    starts = [row.start for rows in b.backend.calls for row in rows if not row.logits]
    assert set(starts[1:]) == ({0} if lost else {starts[1]}) and (lost or starts[1] > 10)
    for seed in range(4):
        assert content(b.answers[f"fast{seed}"]) == alone(FAST, picture(seed))
        assert content(b.answers[f"thinking{seed}"]) == alone(THINKING, picture(seed))


def test_heads_are_kept_for_later_questions_until_their_slot_is_needed(bench: Setup) -> None:
    b = bench(StrictBackend(slots=8), kept_heads=2, kept_pictures=2)
    for seed in (0, 1, 2, 1, 2, 0):
        b.ask(FAST, picture(seed), label=f"{b.calls}")
        b.run()
    # 1 and 2 are found again; 0 was the least recently used when 2 came
    assert b.backend.encoded == 4
    assert b.scheduler.heads.held_slots == 0
    assert len([rows for rows in b.backend.calls if not rows[0].logits]) == 4


def test_kept_heads_and_pictures_fit_into_their_memory(bench: Setup) -> None:
    b = bench(StrictBackend(slots=8, token_bytes=100_000))
    b.ask(FAST, picture(0))
    b.run()
    one = b.scheduler.heads.kept_bytes
    tokens = max(row.start + row.tokens.size for rows in b.backend.calls for row in rows if not row.logits)
    assert one == tokens * 100_000 + 12 * 4, "the head's slot and the picture's 12 visual tokens"

    b = bench(StrictBackend(slots=8, token_bytes=100_000), kept_heads=8, kept_mb=-(-2 * one // 1_000_000))
    for seed in (0, 1, 0, 2, 0, 1):
        b.ask(FAST, picture(seed), label=f"{b.calls}")
        b.run()
        assert 0 < b.scheduler.heads.kept_bytes <= 2 * one + 1_000_000
    assert b.backend.encoded == 4, "1 was the least recently used when 2 came, 2 when 1 came back"

    b = bench(StrictBackend(slots=8, token_bytes=100_000), kept_mb=0)
    for seed in (0, 0):
        b.ask(FAST, picture(seed), label=f"{b.calls}")
        b.run()
        assert b.scheduler.heads.kept_bytes == 0
    assert b.backend.encoded == 2
    assert b.scheduler._slots.free == tuple(range(8))


def test_pictures_that_do_not_fit_are_given_up_and_their_heads_live_on(bench: Setup) -> None:
    b = bench(StrictBackend(slots=8), kept_heads=8, kept_mb=0)
    for pictures in ((0,), (0,), (0, 1)):
        b.ask(FAST, *map(picture, pictures), label=f"{b.calls}")
        b.run()
    assert b.backend.encoded == 3, "found by its head the second time, encoded anew beside another picture"
    assert b.scheduler.heads.kept_bytes == 0


def test_a_slot_whose_question_has_ended_is_cleared(bench: Setup) -> None:
    b = bench(StrictBackend(slots=6))
    for task in (FAST, SLOW, THINKING):
        b.ask(task, picture(0))
    b.run()
    assert [len(held) > 0 for held in b.backend.contents] == [False] * 5 + [True], "only the kept head is left"


def test_several_pictures_in_one_question_use_what_is_encoded_already(bench: Setup) -> None:
    b = bench()
    b.ask(FAST, picture(0), label="left")
    b.ask(FAST, picture(1), label="right")
    b.run()
    b.ask(FAST, picture(0), picture(1), label="both")
    b.ask(FAST, picture(1), picture(0), label="swapped")
    answers = b.run()
    assert b.backend.encoded == 2
    both = [row for rows in b.backend.calls for row in rows if len(row.visual) == 2]
    assert len(both) == 2 and all(int((row.tokens == IMAGE_TOKEN).sum()) == 24 for row in both)
    assert [image.count for row in both for image in row.visual] == [12] * 4
    texts = {name: result(answers[name]).probabilities for name in answers}
    assert len(set(map(str, texts.values()))) == 4, "the order of the pictures matters"


def test_a_head_cut_into_parts_is_the_same_head(bench: Setup, alone: Callable[..., tuple[object, ...]]) -> None:
    b = bench(prefill_tokens=16)
    b.ask(FAST, picture(0), picture(1))
    assert content(b.run()["fast"]) == alone(FAST, picture(0), picture(1))
    parts = [row for rows in b.backend.calls for row in rows if not row.logits]
    assert any(0 < sum(image.count for image in row.visual) < 12 for row in parts), "an image was cut"


def test_boxes_are_in_pixels_of_the_last_picture(bench: Setup, table: TokenTable) -> None:
    script = [*table.encode_markup('[{"bbox_2d":[500,250,1000,750],"label":"mug"}]'), 53]

    def model(held: Content) -> np.ndarray:
        answer = held[len(held) - 1 - held[::-1].index(table.token_bytes.index(b"\n\n")) + 1 :]
        logits = np.zeros(1792, np.float32)
        logits[script[len(answer)]] = 20
        return logits

    b = bench(StrictBackend(model=model))
    last = Picture(np.zeros((1200, 1600, 3), np.uint8))
    b.ask(Ground(name="where"), picture(0), last)
    assert result(b.run()["where"]).detections[0].box == pytest.approx((800, 300, 1600, 900))


def test_reasoning_is_concluded_in_time_for_the_deadline(bench: Setup) -> None:
    b = bench()
    b.ask(THINKING, picture(0), label="warm up")
    b.run()
    needed = b.answers["warm up"].tokens
    start_s = b.now_s[0]
    b.ask(THINKING, picture(0), deadline_s=start_s + 30.0)
    answer = b.run()["thinking"]
    assert answer.outcome is Outcome.BUDGET and result(answer).choice in ("yes", "no")
    assert b.now_s[0] <= start_s + 30.0 and answer.latency_s <= 30.0
    assert 5 < answer.tokens < needed and answer.reasoning


def test_answers_behind_reasoning_that_was_closed_teach_how_long_an_answer_takes(bench: Setup) -> None:
    """No answer of the task has ended by itself: reasoning goes on for as long as what is known leaves it."""
    b = bench()
    b.ask(THINKING, picture(0), label="closed", reasoning_s=4.0)
    assert b.run()["closed"].outcome is Outcome.BUDGET
    start_s = b.now_s[0]
    b.ask(THINKING, picture(0), deadline_s=start_s + 24.0)
    answer = b.run()["thinking"]
    assert answer.outcome is Outcome.BUDGET and result(answer).choice in ("yes", "no")
    assert b.now_s[0] <= start_s + 24.0
    assert answer.tokens > 12, "closed as early as for an answer of unknown length"


def test_too_late_even_for_that_is_a_deadline_by_name(bench: Setup) -> None:
    b = bench()
    b.ask(Count(label="mugs"), picture(0), label="in the middle", deadline_s=1.5)
    b.ask(FAST, picture(0), label="before the first step", deadline_s=0.0)
    for answer in b.run().values():
        assert answer.outcome is Outcome.DEADLINE and answer.result is None and answer.error is None


def test_an_answer_whose_last_token_comes_late_is_no_answer(bench: Setup) -> None:
    undisturbed = bench()
    undisturbed.ask(FAST, picture(0))
    undisturbed.run()
    took_s = undisturbed.now_s[0]
    for deadline_s, outcome in ((took_s - 0.5, Outcome.DEADLINE), (took_s, Outcome.DONE)):
        b = bench()
        b.ask(FAST, picture(0), deadline_s=deadline_s)
        assert b.run()["fast"].outcome is outcome


def test_free_text_is_cut_before_its_deadline(bench: Setup) -> None:
    b = bench()
    b.ask(SLOW, picture(0), deadline_s=12.0)
    answer = b.run()["slow"]
    assert answer.outcome is Outcome.BUDGET and result(answer).text and b.now_s[0] <= 12.0
    assert 5 <= answer.tokens < 40


def test_reasoning_has_a_budget_of_time(bench: Setup) -> None:
    b = bench()
    b.ask(THINKING, picture(0), reasoning_s=10.0)
    answer = b.run()["thinking"]
    assert answer.outcome is Outcome.BUDGET and result(answer).choice in ("yes", "no")
    assert len(answer.reasoning.encode()) > 5 and b.now_s[0] < 20
    b.ask(THINKING, picture(0), label="none", reasoning_s=0.0)
    assert len(b.run()["none"].reasoning) < len(answer.reasoning)


def test_only_the_sequences_of_a_failed_call_fail(bench: Setup, alone: Callable[..., tuple[object, ...]]) -> None:
    b = bench()
    b.ask(THINKING, picture(0))
    b.step(8)
    b.ask(FAST, picture(0), priority=1)
    b.backend.fail_at = len(b.backend.calls)
    b.run()
    assert b.answers["fast"].outcome is Outcome.FAILED and "out of memory" in str(b.answers["fast"].error)
    assert content(b.answers["thinking"]) == alone(THINKING, picture(0)), "it was paused and is none the worse"


def test_a_head_that_fails_takes_its_own_questions_along_only(
    bench: Setup, alone: Callable[..., tuple[object, ...]]
) -> None:
    b = bench()
    b.ask(SLOW, picture(0))
    b.step(8)
    for label in ("one", "two"):
        b.ask(FAST, Picture(np.zeros((3, 3), np.uint8), key="bad"), label=label)
    answers = b.run()
    assert all(isinstance(answers[label].error, ImageError) for label in ("one", "two"))
    assert content(answers["slow"]) == alone(SLOW, picture(0))


def test_nan_logits_and_grammars_without_an_answer_fail_alone(
    bench: Setup, alone: Callable[..., tuple[object, ...]]
) -> None:
    class Impossible(Ask):
        def schema(self) -> dict[str, object]:  # type: ignore[override]
            return {"allOf": [{"type": "integer"}, {"type": "string"}]}

    backend = StrictBackend()
    healthy, seven = backend.model, picture(7)
    assert healthy is not None
    (mark,) = {cell.tobytes() for cell in backend.encode(seven.image).embeddings[:1]}
    nan = np.full(backend.vocab, np.nan, np.float32)
    backend.model = lambda held: nan if mark in held and len(held) > 105 else healthy(held)
    b = bench(backend)
    b.ask(SLOW, seven, label="sick")
    b.ask(Impossible(name="impossible", question="?"), picture(0))
    b.ask(SLOW, picture(0))
    answers = b.run()
    assert isinstance(answers["sick"].error, EngineError) and "nan" in str(answers["sick"].error)
    assert isinstance(answers["impossible"].error, (TaskError, EngineError))
    assert content(answers["slow"]) == alone(SLOW, picture(0))


def test_a_request_beyond_the_context_is_refused_with_its_numbers(bench: Setup) -> None:
    b = bench(StrictBackend(context=160))
    b.ask(Ask(name="long", question="word " * 60), picture(0))
    b.ask(FAST, *(picture(seed) for seed in range(12)), label="many")
    b.ask(Ask(name="short", question="?", answer_tokens=3), picture(0))
    answers = b.run()
    assert isinstance(answers["long"].error, PromptTooLong) and "context of 160" in str(answers["long"].error)
    assert isinstance(answers["many"].error, PromptTooLong) and "12 images take" in str(answers["many"].error)
    assert answers["short"].error is None


def test_cancelling_and_refusing_end_waiting_and_running_jobs(bench: Setup) -> None:
    b = bench(StrictBackend(slots=2))
    jobs = [b.ask(SLOW, picture(0), label=f"{i}") for i in range(4)]
    b.step(6)
    jobs[0].cancelled = True
    jobs[1].cancelled = True
    jobs[2].refusal = EngineBusy("displaced")
    answers = b.run()
    assert [answers[f"{i}"].outcome for i in range(4)] == [
        Outcome.CANCELLED, Outcome.CANCELLED, Outcome.FAILED, Outcome.BUDGET,
    ]  # fmt: skip
    assert answers["0"].text and not answers["1"].text and answers["2"].error is jobs[2].refusal


@dataclass(frozen=True, kw_only=True)
class Interrupted(Ask):
    """A task in whose code Ctrl-C comes while others have their slots already."""

    def prompt(self) -> str:
        raise KeyboardInterrupt


@dataclass(frozen=True, kw_only=True)
class Moody(Ask):
    """A task whose code works once, and raises where the scheduler asks how long its answers are."""

    asked: list[int] = field(default_factory=list, compare=False)

    @property
    def max_tokens(self) -> int:
        self.asked.append(0)
        if len(self.asked) > 1:
            raise RuntimeError("not twice")
        return 40


@pytest.mark.parametrize("task", [Interrupted(name="bad", question="?"), Moody(name="bad", question="?")])
def test_an_error_between_two_that_join_loses_no_slot(
    bench: Setup, alone: Callable[..., tuple[object, ...]], task: Task
) -> None:
    b = bench()
    for turn in range(b.backend.slots):
        b.ask(FAST, picture(0), label=f"joining {turn}", priority=1)
        b.ask(task, picture(0), label=f"raising {turn}", priority=1)
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            b.run()
        b.scheduler.abort(Outcome.CANCELLED, None, b.meter)
        assert b.answers[f"joining {turn}"].outcome is Outcome.CANCELLED and not b.scheduler.live
        getattr(task, "asked", []).clear()
    b.ask(FAST, picture(0))
    b.ask(SLOW, picture(1))
    b.run()
    assert content(b.answers["fast"]) == alone(FAST, picture(0))
    assert content(b.answers["slow"]) == alone(SLOW, picture(1))


def test_an_interrupted_clearing_of_a_slot_loses_no_slot(bench: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench()
    clear = b.scheduler.heads.clear

    def interrupted(slot: int) -> None:
        raise KeyboardInterrupt

    for turn in range(b.backend.slots):
        monkeypatch.setattr(b.scheduler.heads, "clear", interrupted)
        b.ask(FAST, picture(0), label=f"{turn}")
        with pytest.raises(KeyboardInterrupt):
            b.run()
        monkeypatch.setattr(b.scheduler.heads, "clear", clear)
        b.scheduler.abort(Outcome.CANCELLED, None, b.meter)
    b.ask(FAST, picture(0))
    assert b.run()["fast"].outcome is Outcome.DONE


def test_random_loads_come_to_an_end_and_change_no_answer(
    bench: Setup, alone: Callable[..., tuple[object, ...]]
) -> None:
    """Arrivals, priorities, slots and chunks at random; every answer is the one given alone, and nothing is left."""
    rng = np.random.default_rng(0)
    tasks: list[Task] = [FAST, SLOW, THINKING, Count(label="mugs")]
    known = {(task.name, seed): alone(task, picture(seed)) for task in tasks for seed in range(3)}
    for round_ in range(6):
        slots = int(rng.integers(2, 6))
        b = bench(StrictBackend(slots=slots), prefill_tokens=int(rng.integers(16, 80)), starving_calls=8)
        asked: dict[str, tuple[str, int]] = {}
        for i in range(10):
            task, seed = tasks[int(rng.integers(4))], int(rng.integers(3))
            asked[f"{i}"] = (task.name, seed)
            b.ask(task, picture(seed), label=f"{i}", priority=int(rng.integers(3)))
            b.step(int(rng.integers(0, 9)))
        answers = b.run()
        assert {name: content(answers[name]) for name in asked} == {n: known[key] for n, key in asked.items()}, round_
        while b.scheduler.heads.evict():
            pass
        assert b.scheduler._slots.free == tuple(range(slots))


@pytest.mark.parametrize("name", ["prefill_tokens", "starving_calls", "kept_heads", "kept_pictures", "kept_mb"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(EngineError, match=f"{name} is -1"):
        Scheduling(**{name: -1})


def test_json_answers_parse_whatever_else_runs(bench: Setup) -> None:
    b = bench()
    for i in range(6):
        b.ask(Count(name=f"count {i}", label="mugs"), picture(i % 2), priority=i % 3)
    for answer in b.run().values():
        assert json.loads(answer.text)


def test_long_answers_lie_beside_each_other(bench: Setup) -> None:
    """So that they are still neighbours, which run as one batch, when the short ones between them are over."""
    b = bench(StrictBackend(slots=8))
    tasks = [Ground(name=name) for name in ("a", "b", "c", "d")]
    for task, steps in zip(tasks, (2, 30, 2, 20), strict=True):
        b.scheduler._pace.answered(task, steps)
    jobs = [b.ask(task) for task in tasks]
    while any(job.slot is None for job in jobs):
        b.step()
        assert b.scheduler.live
    slots = {job.request.task.name: job.slot for job in jobs}
    assert slots == {"b": 0, "d": 1, "a": 2, "c": 3}


def test_the_earlier_deadline_is_read_first_though_its_answer_is_shorter(bench: Setup) -> None:
    b = bench(prefill_tokens=16)
    urgent, patient = (Ask(name=name, question="What is this? " * 8, answer_tokens=3) for name in ("urgent", "patient"))
    b.scheduler._pace.answered(urgent, 2)
    b.scheduler._pace.answered(patient, 30)
    jobs = [b.ask(patient, deadline_s=900.0), b.ask(urgent, deadline_s=500.0)]
    while any(job.slot is None for job in jobs):
        b.step()
        assert b.scheduler.live
    assert [job.slot for job in jobs] == [0, 1]
    while all(job.sequence is not None and job.sequence.reading for job in jobs):
        b.step()
    assert [job.sequence is not None and job.sequence.reading for job in jobs] == [True, False]


def test_the_limit_of_an_answer_is_asked_for_until_one_is_known() -> None:
    """It may be computed from all options of a task, and this is asked of each task at every step."""

    class Costly(Count):
        @property
        def max_tokens(self) -> int:
            nonlocal asked
            asked += 1
            return 7

    asked, pace, task = 0, Pace(), Costly(label="mugs")
    assert pace.answer_steps(task) == 7 and asked == 1
    pace.answered(task, 3)
    assert pace.answer_steps(task) == 3 and asked == 1
