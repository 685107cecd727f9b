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
from exaone_ros.engine.ngram import (
    CONTEXTS_KEPT,
    FOLLOWERS_KEPT,
    LIKELY,
    MOST_LEARNT,
    MOST_SEEN,
    SEEN,
    Habit,
    NgramTable,
)
from exaone_ros.engine.sampling import GENERAL, GREEDY, Sampling
from exaone_ros.engine.sequence import Prefix, Question, Sequence
from exaone_ros.engine.speculation import CHEAP, Speculation, Speculator
from exaone_ros.engine.timings import Meter, Timings
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.tasks import Decide, Ground

HEAD = np.array([10, 11, 12, 13, 14], np.int64)
REASONED = Decide(instruction="?", options=("clear", "blocked"), reason=True).schema()
QUESTION = "What is it, and where?"
BOXES = {**Ground(name="objects").schema(), "minItems": 2, "maxItems": 4}


def say(text: str, table: TokenTable) -> StrictBackend:
    """A backend that wants to say this text, in the tokenizer's own tokens, whatever the question is."""
    wanted = [*table.encode_markup(text), table.end_of_turn[0]]
    question = table.encode_markup(QUESTION)

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
    question = Question("q", np.array(table.encode_markup(QUESTION), np.int64), schema, 120, 0, sampling)
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
    asked = [answer(backend, table, grammars, REASONED, speculator) for _ in range(SEEN + 2)]
    plain, without = answer(say(text, table), table, grammars, REASONED, None)
    assert all(sequence.decoded() == plain.decoded() for sequence, _ in asked)
    steps = [timings.decode_steps for _, timings in asked]
    assert steps[-1] <= 1 < steps[0] <= without.decode_steps  # the prompt's own run verifies the first of it
    widest = max(row.tokens.size for rows in backend.calls[1:] for row in rows if row.start > HEAD.size + 1)
    assert widest <= 1 + 8


def test_a_draft_behind_a_prompt_is_verified_with_it(table: TokenTable, grammars: Grammars) -> None:
    text = '[{"bbox_2d":[592,119,787,203],"label":"red cube"},{"bbox_2d":[100,200,300,400],"label":"mug"}]'
    backend = say(text, table)
    speculator = Speculator(backend, CHEAP)
    asked = [answer(backend, table, grammars, BOXES, speculator) for _ in range(SEEN + 1)]
    prompts = [row for rows in backend.calls for row in rows if row.start == HEAD.size and row.logits]
    assert len(prompts) == len(asked)
    assert prompts[0].tokens.size - prompts[0].logits == prompts[-1].tokens.size - prompts[-1].logits
    assert prompts[0].logits < prompts[-1].logits
    assert all(sequence.decoded().text == text for sequence, _ in asked)


def test_behind_prompts_that_run_together_a_draft_costs_no_room(table: TokenTable, grammars: Grammars) -> None:
    text = '[{"bbox_2d":[592,119,787,203],"label":"red cube"},{"bbox_2d":[100,200,300,400],"label":"mug"}]'
    backend = say(text, table)
    speculator = Speculator(backend, Speculation(ngram=16))
    for _ in range(SEEN + 1):
        answer(backend, table, grammars, BOXES, speculator)
    backend.calls.clear()
    batch, meter, prefix = Batch(backend, 512, speculator), Meter(), Prefix(0, HEAD.size)
    prompts = {1: table.encode_markup(QUESTION), 2: table.encode_markup(f"Which of all these things? {QUESTION}")}
    batch.join(
        {
            slot: Sequence(Question("q", np.array(ids, np.int64), BOXES, 120), prefix, table, grammars, backend.context)
            for slot, ids in prompts.items()
        },
        meter,
    )
    due = {slot: len(sequence.due) for slot, sequence in batch.running.items()}
    batch.step([1, 2], meter)
    taken = {row.slot: row.tokens.size for row in backend.calls[-1]}
    assert taken[2] == due[2]  # the longest
    assert due[1] < taken[1] <= due[2]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_draft_is_no_longer_than_the_backend_can_take_back(table: TokenTable, grammars: Grammars, most: int) -> None:
    text = '{"choice":"clear","reason":"nothing is in the way"}'
    backend = say(text, table)
    backend.longest_draft = most
    speculator = Speculator(backend, Speculation(previous=64, ngram=16))
    for _ in range(SEEN + 2):
        assert answer(backend, table, grammars, REASONED, speculator)[0].decoded().text == text
    assert max(row.logits for rows in backend.calls for row in rows) == 1 + most


def test_tokens_that_came_true_because_they_were_forced_are_no_guesses(table: TokenTable, grammars: Grammars) -> None:
    """Of `],"label":"` and the like one choice is the model's; the figure means guesses, as for the other drafters."""
    text = '{"choice":"clear","reason":"nothing is in the way"}'
    backend = say(text, table)
    speculator = Speculator(backend, Speculation(ngram=16))
    for _ in range(SEEN + 2):
        sequence, timings = answer(backend, table, grammars, REASONED, speculator)
    assert sequence.tokens_forced > 0 and timings.drafts_accepted > 0
    assert timings.drafts_accepted <= timings.tokens_drafted <= sequence.tokens_sampled
    assert sequence.guesses_drafted == timings.tokens_drafted


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


def follower(ngrams: NgramTable, tokens: list[int]) -> int | None:
    found = ngrams.follows(tokens)
    assert found is None or LIKELY <= found[1] <= 1
    return found and found[0]


def test_a_context_is_known_after_three_times_and_follows_a_new_habit() -> None:
    ngrams = NgramTable()
    for times in range(MOST_SEEN + 20):
        assert follower(ngrams, [1, 2, 3]) == (7 if times >= SEEN else None)
        ngrams.learn([1, 2, 3, 7], 3)
    assert ngrams.habitual([1, 2, 3]) == 7 and ngrams.habitual([4, 2, 3]) is None
    for _ in range(2 * MOST_SEEN):
        ngrams.learn([1, 2, 3, 8], 3)
    assert follower(ngrams, [1, 2, 3]) == 8
    assert follower(ngrams, [5, 5, 3]) == 8  # the last one alone knows it too
    assert follower(ngrams, [5, 2, 6]) == 8  # and the one before
    assert follower(ngrams, []) is None and follower(ngrams, [9]) is None and ngrams.habitual([9]) is None


def test_the_most_frequent_of_a_few_is_likely() -> None:
    ngrams = NgramTable()
    for token in [7, 8, 8, 9, 8, 7, 9, 8] * 3:
        ngrams.learn([1, 2, 3, token], 3)
    found = ngrams.follows([1, 2, 3])
    assert found is not None and found[0] == 8 and found[1] == pytest.approx(11 / 24)
    assert ngrams.follows([1, 2, 3], 0.5) is None and ngrams.habitual([1, 2, 3]) is None


def test_what_follows_by_chance_is_never_likely() -> None:
    ngrams = NgramTable()
    for value in range(500):
        ngrams.learn([1, 2, 3, 100 + value % 17], 3)
        assert follower(ngrams, [1, 2, 3]) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=400))
def test_counts_stay_in_order_and_within_bounds(followers: list[int]) -> None:
    ngrams = NgramTable()
    for token in followers:
        ngrams.learn([1, 2, 3, token], 3)
        for seen, *pairs in ngrams._followers.values():
            tokens, counts = pairs[::2], pairs[1::2]
            assert 0 < seen < MOST_SEEN and 0 < len(counts) <= FOLLOWERS_KEPT and sum(counts) <= seen + 1
            assert counts == sorted(counts, reverse=True) and min(counts) > 0 and len(set(tokens)) == len(tokens)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 60))
def test_any_tokens_can_be_learnt_from(tokens: list[int], start: int) -> None:
    ngrams = NgramTable()
    for _ in range(SEEN + 1):
        ngrams.learn(tokens, start)
    for at in range(len(tokens)):
        assert follower(ngrams, tokens[:at]) in (None, *tokens)


def test_habit_leaves_to_others_what_is_only_likely(table: TokenTable, grammars: Grammars) -> None:
    texts = ['{"choice":"clear","reason":"it is empty"}', '{"choice":"blocked","reason":"it is full"}'] * 5
    guesses = {}
    for least in (LIKELY, 0.5):
        habit, drafted = Habit(4, least), 0
        for text in texts:
            backend = say(text, table)
            speculator = Speculator(backend, Speculation(ngram=4))
            speculator._habit, speculator._drafters = habit, [habit]
            found, timings = answer(backend, table, grammars, REASONED, speculator)
            assert found.decoded().text == text
            drafted += timings.tokens_drafted - timings.drafts_accepted
        guesses[least] = drafted
    assert guesses[0.5] < guesses[LIKELY], "fewer that came to nothing"


def test_what_comes_back_is_not_forgotten_for_what_came_once() -> None:
    ngrams = NgramTable()
    for first in range(0, 2 * CONTEXTS_KEPT, 50):
        ngrams.learn([1, 2, 3, 7], 3)
        ngrams.learn(list(range(first + 100, first + 150)), 0)
    assert follower(ngrams, [1, 2, 3]) == 7


def test_of_a_long_reasoning_the_end_is_learnt(table: TokenTable, grammars: Grammars) -> None:
    question = Question("q", np.array([1, 2, 3, 4], np.int64), None, 10 * MOST_LEARNT)
    sequence = Sequence(question, Prefix(0, HEAD.size), table, grammars, 20 * MOST_LEARNT)
    sequence._tokens += list(range(1000, 1000 + 4 * MOST_LEARNT))
    habit = Habit(4)
    habit.learn(sequence)
    contexts = {context for context in habit._table._followers if len(context) == 1}
    assert contexts == {(token,) for token in sequence._tokens[-MOST_LEARNT - 1 : -1]}


def test_memory_is_bounded() -> None:
    ngrams = NgramTable()
    ngrams.learn(list(range(CONTEXTS_KEPT + 100)), 0)
    assert len(ngrams._followers) == CONTEXTS_KEPT
