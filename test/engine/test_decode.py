"""The batch loop gives each question the answer it would get alone, whatever runs beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine.strict_backend import Content, StrictBackend

from exaone_ros.engine.backend import Row
from exaone_ros.engine.decode import Batch
from exaone_ros.engine.grammar import Grammars
from exaone_ros.engine.sampling import GENERAL, GREEDY, Sampling
from exaone_ros.engine.sequence import Outcome, Prefix, Question, Sequence
from exaone_ros.engine.timings import Meter, Timings
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineError, PromptTooLong, TaskError
from exaone_ros.tasks import Count, Decide, Ground, Task

HEAD = np.array([10, 11, 12, 13, 14], np.int64)
Maker = Callable[..., Sequence]


@pytest.fixture
def make(table: TokenTable, grammars: Grammars) -> Maker:
    """Makes a sequence that starts from `HEAD` in slot 0."""

    def make(
        prompt: str,
        schema: dict[str, Any] | None,
        *,
        max_tokens: int = 200,
        thinking_budget: int = 0,
        sampling: Sampling = GREEDY,
        context: int = 512,
        name: str = "",
    ) -> Sequence:
        tokens = np.array(table.encode_markup(prompt), np.int64)
        question = Question(name or prompt, tokens, schema, max_tokens, thinking_budget, sampling)
        return Sequence(question, Prefix(0, HEAD.size), table, grammars, context)

    return make


def short(task: Task) -> dict[str, Any]:
    schema = task.schema()
    assert schema is not None
    if schema["type"] == "array":
        schema |= {"minItems": 2, "maxItems": 3}
    return schema


SCHEMAS = [
    short(Ground(classes=("red cube", "파란 공"))),
    short(Count()),
    short(Decide(instruction="?", options=("clear", "blocked", "person"), reason=False)),
    {"type": "string", "maxLength": 12},
    {"enum": ["go", "go left", "go left now"]},
    short(Ground()),
    {"type": "integer", "minimum": 0, "maximum": 99},
]


def run(backend: StrictBackend, sequences: list[Sequence], prefill_tokens: int = 512) -> Timings:
    """Run sequences until each is finished; those without a slot take turns."""
    backend.run([Row(0, 0, HEAD, logits=0)])
    batch, meter = Batch(backend, prefill_tokens), Meter()
    waiting, free = list(sequences), list(range(1, backend.slots))
    while waiting or batch.running:
        batch.join({free.pop(0): waiting.pop(0) for _ in range(min(len(free), len(waiting)))}, meter)
        batch.step(list(batch.running), meter)
        for slot in [slot for slot, sequence in batch.running.items() if sequence.finished]:
            batch.leave(slot)
            free.append(slot)
    assert all(sequence.finished for sequence in sequences)
    return meter.read()


@pytest.mark.parametrize("sampling", [GREEDY, GENERAL, Sampling(temperature=2.0, seed=7)])
def test_answers_in_a_batch_are_those_given_alone(make: Maker, sampling: Sampling) -> None:
    alone = []
    for i, schema in enumerate(SCHEMAS):
        sequence = make(f"question {i}", schema, sampling=sampling)
        run(StrictBackend(), [sequence])
        alone.append(sequence.decoded())
    for slots in (8, 4, 3, 2):  # all at once, and in turns
        backend = StrictBackend(slots=slots)
        together = [make(f"question {i}", schema, sampling=sampling) for i, schema in enumerate(SCHEMAS)]
        run(backend, together)
        assert [sequence.decoded() for sequence in together] == alone
        assert max(len(rows) for rows in backend.calls) == min(len(SCHEMAS), slots - 1)
    for schema, decoded in zip(SCHEMAS, alone, strict=True):
        json.loads(decoded.text)
        assert b"".join(token.text for token in decoded.tokens).decode() == decoded.text
        assert any(not token.forced for token in decoded.tokens) or "enum" in schema


def test_prompts_of_all_questions_are_prefilled_in_one_call_on_copies_of_the_prefix(make: Maker) -> None:
    backend = StrictBackend()
    sequences = [make("a", SCHEMAS[1]), make("a longer question", SCHEMAS[5])]
    timings = run(backend, sequences)
    assert len(backend.copies) == 1 and backend.copies[0][2] == HEAD.size
    first = backend.calls[1]
    assert [row.start for row in first] == [HEAD.size] * 2
    assert all(row.logits == 1 for rows in backend.calls[1:] for row in rows)
    assert timings.decode_steps == len(backend.calls) - 2
    assert timings.prefill_s > 0 and timings.decode_s > 0 and timings.grammar_s > 0
    assert backend.contents[0] == tuple(HEAD.tolist()), "the prefix itself stays as it was"


def test_forced_tokens_ride_along_with_the_token_that_forces_them(
    make: Maker, table: TokenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With jumps: fewer calls. Run one token a call instead: more calls, the same text."""
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["left", "right"]}, "and some more words": {"enum": ["up", "down"]}},
        "required": ["a", "and some more words"],
        "additionalProperties": False,
    }
    jumping, jumped = StrictBackend(), make("q", schema)
    run(jumping, [jumped])
    assert jumped.tokens_forced > 10
    assert jumping.calls[1][0].tokens.size == table_size(table, "q") + first_jump(make, schema)
    assert max(rows[0].tokens.size for rows in jumping.calls[2:]) > 5

    walking, walked = StrictBackend(), make("q", schema)
    whole_row = walking.run

    def one_by_one(rows: list[Row]) -> list[np.ndarray]:
        logits = []
        for row in rows:
            for at in range(row.tokens.size):
                last = whole_row([Row(row.slot, row.start + at, row.tokens[at : at + 1], logits=row.logits)])
            logits += last
        return logits

    monkeypatch.setattr(walking, "run", one_by_one)
    run(walking, [walked])
    assert walked.decoded() == jumped.decoded()
    assert len(walking.calls) > 2 * len(jumping.calls)


def table_size(table: TokenTable, text: str) -> int:
    return len(table.encode_markup(text))


def first_jump(make: Maker, schema: dict[str, Any]) -> int:
    return make("q", schema).next_tokens.size - make("q", {"type": "integer"}).next_tokens.size


def test_an_answer_without_any_choice_needs_no_call(make: Maker) -> None:
    backend, sequence = StrictBackend(), make("q", {"enum": ["only"]})
    run(backend, [sequence])
    assert sequence.decoded().text == '"only"' and sequence.outcome is Outcome.DONE
    assert len(backend.calls) == 1  # the prefix


def test_finished_questions_leave_the_batch(make: Maker) -> None:
    backend = StrictBackend()
    short = make("short", {"enum": ["a", "b"]})
    run(backend, [make("long", SCHEMAS[5]), short])
    assert short.outcome is Outcome.DONE
    assert [len(rows) for rows in backend.calls[1:]][-1] == 1


def test_a_backend_that_raises_fails_its_batch_and_those_that_wait_go_on(make: Maker) -> None:
    backend = StrictBackend(slots=3, fail_at=2)
    sequences = [make(str(i), SCHEMAS[5]) for i in range(3)]
    run(backend, sequences)
    assert [s.outcome for s in sequences] == [Outcome.FAILED, Outcome.FAILED, Outcome.DONE]
    assert isinstance(sequences[0].error, EngineError)
    assert "strict" in str(sequences[0].error) and "out of memory" in str(sequences[0].error)
    alone = make("2", SCHEMAS[5])
    run(StrictBackend(), [alone])
    assert sequences[2].decoded() == alone.decoded()


def test_nan_logits_fail_only_the_question_they_belong_to(make: Maker, table: TokenTable) -> None:
    backend = StrictBackend()
    healthy = backend.model
    assert healthy is not None

    def sick(content: Content) -> np.ndarray:
        broken = 1111 in content and len(content) > HEAD.size + 12
        return np.full(backend.vocab, np.nan, np.float32) if broken else healthy(content)

    backend.model = sick
    mark = table.token_bytes[1111].decode()
    victim, other = make(mark, SCHEMAS[5]), make("well", SCHEMAS[5])
    assert 1111 in victim.next_tokens
    run(backend, [victim, other])
    assert victim.outcome is Outcome.FAILED and "nan" in str(victim.error)
    assert other.outcome is Outcome.DONE


def test_evidence_sums_to_one_and_forced_tokens_have_none(make: Maker) -> None:
    sequence = make("q", SCHEMAS[5])
    run(StrictBackend(), [sequence])
    tokens = sequence.decoded().tokens
    assert len(tokens) == sequence.tokens_sampled + sequence.tokens_forced
    sampled = [token for token in tokens if not token.forced]
    assert sampled and len(sampled) <= sequence.tokens_sampled
    for token in sampled:
        listed = dict(token.alternatives)
        assert listed[token.text] == token.probability
        total = sum(probability for _, probability in token.alternatives)
        assert total == pytest.approx(1) if len(token.alternatives) < 64 else total <= 1 + 1e-9
    assert all(token.probability == 1 for token in tokens if token.forced)


def test_reasoning_at_its_budget_is_concluded_and_the_answer_still_obeys_its_grammar(
    make: Maker, table: TokenTable
) -> None:
    backend, sequence = StrictBackend(), make("q<think>\n", SCHEMAS[2], thinking_budget=9)
    run(backend, [sequence])
    assert sequence.outcome is Outcome.BUDGET
    decoded = sequence.decoded()
    assert json.loads(decoded.text)["choice"] in ("clear", "blocked", "person")
    assert decoded.reasoning and "</think>" not in decoded.reasoning
    slot = next(content for content in backend.contents[1:] if len(content) > HEAD.size)
    text = b"".join(table.token_bytes[t] for t in slot if isinstance(t, int)).decode("utf-8", "replace")
    assert "\n</think>\n\n" + decoded.text.partition(":")[0] in text


def test_reasoning_that_ends_by_itself_is_done(make: Maker, table: TokenTable) -> None:
    backend = StrictBackend()
    arbitrary = backend.model
    assert arbitrary is not None

    def model(content: Content) -> np.ndarray:
        logits = arbitrary(content)
        logits[76] = 100.0 if len(content) == HEAD.size + 8 else -100.0
        return logits

    backend.model = model
    sequence = make("q", SCHEMAS[2], thinking_budget=50)
    run(backend, [sequence])
    assert sequence.outcome is Outcome.DONE and sequence.decoded().reasoning


def test_free_text_ends_with_the_turn_or_at_its_budget(make: Maker, table: TokenTable) -> None:
    cut = make("q", None, max_tokens=20)
    run(StrictBackend(), [cut])
    assert cut.outcome is Outcome.BUDGET and cut.tokens_sampled == 20 and cut.decoded().text

    backend = StrictBackend()
    arbitrary = backend.model
    assert arbitrary is not None

    def model(content: Content) -> np.ndarray:
        logits = arbitrary(content)
        logits[table.end_of_turn[0]] = 100.0 if len(content) == HEAD.size + 8 else -100.0
        return logits

    backend.model = model
    ended = make("q", None, max_tokens=200)
    run(backend, [ended])
    assert ended.outcome is Outcome.DONE
    assert "endofturn" not in ended.decoded().text


def test_a_structured_answer_that_does_not_end_has_failed_and_says_at_how_many_tokens(make: Maker) -> None:
    sequence = make("q", {"type": "array", "items": {"type": "integer"}, "minItems": 50}, max_tokens=20)
    run(StrictBackend(), [sequence])
    assert sequence.outcome is Outcome.FAILED
    assert (
        isinstance(sequence.error, EngineError) and "20 tokens" in str(sequence.error) and "'q'" in str(sequence.error)
    )


def test_the_context_is_never_left(make: Maker) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 500}
    structured = make("q", schema, max_tokens=4000, context=64)
    free = make("q", None, max_tokens=4000, context=64)
    run(StrictBackend(context=64), [structured, free])  # the backend refuses tokens beyond it
    assert structured.outcome is Outcome.FAILED and isinstance(structured.error, PromptTooLong)
    assert "64" in str(structured.error)
    assert free.outcome is Outcome.BUDGET and free.decoded().text


def test_reasoning_leaves_room_for_the_answer_in_a_short_context(make: Maker) -> None:
    sequence = make("q", SCHEMAS[2], thinking_budget=10_000, max_tokens=32, context=96)
    run(StrictBackend(context=96), [sequence])
    assert sequence.outcome is Outcome.BUDGET
    assert json.loads(sequence.decoded().text)


def test_a_prompt_too_long_is_refused_with_its_numbers(make: Maker) -> None:
    with pytest.raises(PromptTooLong, match=r"'long'.* 5 tokens.*context of 64"):
        make("too long " * 20, SCHEMAS[1], context=64, name="long")


def test_a_schema_that_is_refused_is_the_questions_own_error(make: Maker) -> None:
    with pytest.raises(TaskError, match="banana"):
        make("q", {"type": "banana"})
