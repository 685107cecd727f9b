"""Where a ring keeps a position, and what it still keeps."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.engine.backend import Row
from exaone_ros.engine.backends.ring import Intact, Ring, positions_in

WINDOW, CHUNK = 16, 8
RING = Ring(WINDOW, CHUNK, WINDOW + CHUNK)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.lists(st.integers(0, 300), min_size=1, max_size=3))
def test_a_place_holds_the_newest_position_that_falls_on_it(length: int, newest: list[int]) -> None:
    found = positions_in(length, np.array(newest))
    for row, last in enumerate(newest):
        written = np.full(length, -1)
        for position in range(last + 1):
            written[position % length] = position
        assert (np.where(found[row] < 0, -1, found[row]) == written).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 80), st.integers(0, 8)), min_size=1, max_size=8))
def test_what_may_be_gone_on_from_has_its_whole_window(rows: list[tuple[int, int, int]]) -> None:
    """A ring kept by hand: wherever `keeps` says yes, the window before the next token is there, in each run."""
    intact, places, held = Intact(RING, 1), np.full(RING.length, -1), 0
    for wish, count, padding in rows:
        start = min(wish, held)
        if not intact.keeps(0, start):
            start = held
        if start == 0:
            intact.restart(0)
        for part in RING.cut(Row(0, start, np.zeros(count, np.int64)), -1):
            length = min(len(part.tokens) + padding, RING.room(part.start))
            assert part.start % RING.length + length <= RING.length, "a run does not wrap"
            for position in range(part.start, part.start + length):
                places[position % RING.length] = position
            intact.wrote(0, part.start + length)
            for query in range(part.start, part.start + len(part.tokens)):
                for key in range(max(0, query - WINDOW + 1), query + 1):
                    assert places[key % RING.length] == key
        held = start + count
        assert intact.keeps(0, held)
        back = held - CHUNK + padding
        assert back < start or intact.keeps(0, back), "a refused draft can be taken back"
