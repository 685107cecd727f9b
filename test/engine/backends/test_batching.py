"""Rows share runs where that is cheaper, and never where it could harm."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.engine.backend import Row
from exaone_ros.engine.backends.batching import RUN_COST_TOKENS, Batch, plan_batches

CONTEXT = 100


def row(slot: int, count: int, start: int = 0) -> Row:
    return Row(slot, start, np.zeros(count, np.int64))


def plan(*rows: Row, held: list[int] | None = None) -> list[Batch]:
    return plan_batches(rows, held or [0] * 10, room)


def room(start: int) -> int:
    return CONTEXT - start


def test_one_decode_step_of_neighbours_is_one_run() -> None:
    assert plan(row(3, 1), row(1, 1), row(2, 1)) == [Batch(1, (1, 2, 0), 1)]


def test_rows_of_similar_length_are_padded() -> None:
    assert plan(row(0, 30), row(1, 38)) == [Batch(0, (0, 1), 38)]


def test_a_prefill_does_not_pad_a_decode_step() -> None:
    assert plan(row(0, 60), row(1, 1), row(2, 1)) == [Batch(0, (0,), 60), Batch(1, (1, 2), 1)]


def test_a_short_gap_is_filled_and_a_wide_one_is_not() -> None:
    assert plan(row(1, 1), row(3, 1)) == [Batch(1, (0, None, 1), 1)]
    assert plan(row(1, 40), row(3, 40)) == [Batch(1, (0,), 40), Batch(3, (1,), 40)]


def test_a_full_slot_is_no_filler() -> None:
    held = [0, 0, CONTEXT, 0, 0]
    assert plan(row(1, 1), row(3, 1), held=held) == [Batch(1, (0,), 1), Batch(3, (1,), 1)]


def test_a_row_near_the_end_of_the_context_is_not_padded() -> None:
    held = [0, CONTEXT - 2, 0]
    assert plan(row(0, 9), row(1, 2, CONTEXT - 2), held=held) == [Batch(0, (0,), 9), Batch(1, (1,), 2)]


def test_a_filler_comes_behind_what_an_earlier_run_of_the_call_wrote() -> None:
    assert plan(row(0, 2), row(1, 60), row(2, 2)) == [Batch(1, (1,), 60), Batch(0, (0, None, 2), 2)]
    batches = plan(row(0, 2), row(1, CONTEXT - 1), row(2, 2))
    assert batches == [Batch(1, (1,), CONTEXT - 1), Batch(0, (0,), 2), Batch(2, (2,), 2)]


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(0, 9), st.tuples(st.integers(1, 60), st.integers(0, 40)), max_size=10),
    st.lists(st.integers(0, CONTEXT), min_size=10, max_size=10),
)
def test_every_row_runs_once_at_its_slot_and_nothing_is_written_out_of_bounds(
    shapes: dict[int, tuple[int, int]], held: list[int]
) -> None:
    rows = [row(slot, count, start) for slot, (count, start) in shapes.items()]
    for slot, (_, start) in shapes.items():
        held[slot] = start
    batches = plan_batches(rows, held, room)
    ran = [index for batch in batches for index in batch.rows if index is not None]
    assert sorted(ran) == list(range(len(rows)))
    for batch in batches:
        assert batch.rows[0] is not None
        assert batch.rows[-1] is not None
        for place, index in enumerate(batch.rows):
            slot = batch.first_slot + place
            if index is None:
                assert held[slot] + batch.length <= CONTEXT
                continue
            assert rows[index].slot == slot
            assert rows[index].start + batch.length <= CONTEXT
            assert 0 <= batch.length - len(rows[index].tokens) <= RUN_COST_TOKENS
            held[slot] = rows[index].start + len(rows[index].tokens)  # where a filler of a later run begins
