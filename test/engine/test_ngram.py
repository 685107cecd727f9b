"""Habit: what is drafted from the grammar and from earlier answers saves steps and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from engine.strict_backend import Content, StrictBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exaone_ros.engine.backend import Row
from exaone_ros.engine.decode import Batch
from exaone_ros.engine.grammar import Grammars
from exaone_ros.engine.ngram import CONTEXTS_KEPT, MOST_SURE, ORDERS, SURE, NgramTable
from exaone_ros.engine.sampling import GENERAL, GREEDY, Sampling
from exaone_ros.engine.sequence import Prefix, Question, Sequence
from exaone_ros.engine.speculation import CHEAP, Speculation, Speculator
from exaone_ros.engine.timings import Meter, Timings
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.tasks import Decide, Ground

HEAD = np.array([10, 11, 12, 13, 14], np.int64)
REASONED = Decide(instruction="?", options=("clear", "blocked"), reason=True).schema()
BOXES = {**Ground(name="objects").schema(), "minItems": 2, "maxItems": 4}


def say(text: str, table: TokenTable) -> StrictBackend:
    """A backend that wants to say this text, in the tokenizer's own tokens, whatever the question is."""
    wanted = [*table.encode_markup(text), table.end_of_turn[0]]
    question = table.encode_markup("?")

    def model(content: Content) -> NDArray[np.float32]:
        logits = np.zeros(table.size, np.float32)
        at = len(content) - HEAD.size - len(question)
        if 0 <= at < len(wanted):
            logits[wanted[at]] = 9.0
        return logits

    return StrictBackend(vocab=table.size, model=model)


def answer(
    backend: StrictBackend,
    table: TokenTable,
    grammars: Grammars,
    schema: dict[str, object],
    speculator: Speculator | None,
    sampling: Sampling = GREEDY,
) -> tuple[Sequence, Timings]:
    question = Question("q", np.array(table.encode_markup("?"), np.int64), schema, 120, 0, sampling)
    sequence = Sequence(question, Prefix(0, HEAD.size), table, grammars, backend.context)
    backend.run([Row(0, 0, HEAD, logits=0)])
    batch, meter = Batch(backend, 512, speculator), Meter()
    batch.join({1: sequence}, meter)
    while not sequence.finished:
        batch.step([1], meter)
    return sequence, meter.read()


def test_text_that_has_to_come_is_drafted_as_the_tokenizer_spells_it(table: TokenTable, grammars: Grammars) -> None:
    text = '[{"bbox_2d":[592,119,787,203],"label":"red cube"},{"bbox_2d":[100,200,300,400],"label":"mug"}]'
    plain, before = answer(say(text, table), table, grammars, BOXES, None)
    backend = say(text, table)
    drafted, after = answer(backend, table, grammars, BOXES, Speculator(backend, CHEAP))
    assert drafted.decoded() == plain.decoded() and drafted.decoded().text == text
    assert drafted.written == plain.written
    # behind each fourth coordinate the model had to be asked for `],"label":"`, of which only `]` is one token too
    assert after.drafts_accepted >= 2
    assert before.decode_steps - after.decode_steps == after.drafts_accepted
    assert after.drafts_accepted <= after.tokens_drafted


def test_what_was_said_three_times_is_drafted_and_then_costs_few_steps(table: TokenTable, grammars: Grammars) -> None:
    text = '{"choice":"clear","reason":"nothing is in the way"}'
    backend = say(text, table)
    speculator = Speculator(backend, Speculation(ngram=8))
    asked = [answer(backend, table, grammars, REASONED, speculator) for _ in range(SURE + 1)]
    plain, _ = answer(say(text, table), table, grammars, REASONED, None)
    assert all(sequence.decoded() == plain.decoded() for sequence, _ in asked)
    steps = [timings.decode_steps for _, timings in asked]
    assert steps[SURE] <= 2 < steps[0]
    widest = max(row.tokens.size for rows in backend.calls[1:] for row in rows if row.start > HEAD.size + 1)
    assert widest <= 1 + 8


@pytest.mark.parametrize("sampling", [GREEDY, GENERAL, Sampling(temperature=0.4, seed=3)])
def test_a_model_that_says_anything_is_not_led_by_habit(
    table: TokenTable, grammars: Grammars, sampling: Sampling
) -> None:
    backend = StrictBackend()
    speculator = Speculator(backend, Speculation(ngram=16))
    for schema in (BOXES, REASONED, BOXES, BOXES, REASONED, REASONED, BOXES):
        drafted, timings = answer(backend, table, grammars, schema, speculator, sampling)
        plain, without = answer(StrictBackend(), table, grammars, schema, None, sampling)
        assert drafted.decoded() == plain.decoded() and drafted.outcome is plain.outcome
        assert drafted.written == plain.written
        assert timings.decode_steps <= without.decode_steps


def test_a_spelling_stops_before_a_special_token(table: TokenTable) -> None:
    assert table.spelled(b'],"label":"')
    assert b"".join(table.token_bytes[t] for t in table.spelled(b'],"label":"')) == b'],"label":"'
    for special in (b"<|endofturn|>", b"<|image_pad|>"):
        assert not any(table.is_special(token) for token in table.spelled(b"a" + special + b"b"))
    assert table.spelled(b"") == ()


def test_a_context_is_sure_after_three_times_and_forgets_after_as_many_failures() -> None:
    ngrams = NgramTable()
    for times in range(SURE + 20):
        assert ngrams.follows([1, 2, 3]) == (7 if times >= SURE else None)
        ngrams.learn([1, 2, 3, 7], 3)
    for _ in range(MOST_SURE - SURE + 1):
        assert ngrams.follows([1, 2, 3]) == 7
        ngrams.learn([1, 2, 3, 8], 3)
    assert ngrams.follows([1, 2, 3]) is None
    for _ in range(2 * SURE):
        ngrams.learn([1, 2, 3, 8], 3)
    assert ngrams.follows([1, 2, 3]) == 8
    assert ngrams.follows([5, 5, 3]) == 8  # the shorter look knows it too
    assert ngrams.follows([]) is None and ngrams.follows([9]) is None


def test_what_follows_by_chance_is_never_sure() -> None:
    ngrams = NgramTable()
    for value in range(500):
        ngrams.learn([1, 2, 3, 100 + value % 7], 3)
        assert ngrams.follows([1, 2, 3]) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 60))
def test_any_tokens_can_be_learnt_from(tokens: list[int], start: int) -> None:
    ngrams = NgramTable()
    for _ in range(SURE + 1):
        ngrams.learn(tokens, start)
    for at in range(len(tokens)):
        assert ngrams.follows(tokens[:at]) in (None, *tokens)


def test_memory_is_bounded() -> None:
    ngrams = NgramTable()
    ngrams.learn(list(range(CONTEXTS_KEPT + 100)), 0)
    assert len(ngrams._followers) == CONTEXTS_KEPT
    assert len(ORDERS) == 2 and ORDERS[0] > ORDERS[1]
