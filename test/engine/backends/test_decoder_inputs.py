"""Arrays that are filled again hold what fresh ones would, whatever they held before."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.engine.backend import Row
from exaone_ros.engine.backends.batching import Batch
from exaone_ros.engine.backends.decoder_inputs import DecoderInputs

SLOTS, LENGTH, CAPACITY, WINDOW, LOCAL, WANTED, IMAGE_TOKEN = 3, 4, 40, 6, 12, 5, 67


def inputs() -> DecoderInputs:
    nothing = np.zeros((1, 8), np.float32)
    return DecoderInputs(SLOTS, LENGTH, CAPACITY, WINDOW, WANTED, 100, nothing, local=LOCAL)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Batch, list[Row], list[int]]:
    """A batch of the shape: for each slot a row or a filler, the logits of all rows together as many as wanted."""
    counts = draw(st.lists(st.integers(0, LENGTH), min_size=SLOTS, max_size=SLOTS).filter(lambda n: sum(n) >= WANTED))
    left, rows, places = WANTED, [], []
    for slot, count in enumerate(counts):
        behind = sum(counts[slot + 1 :])
        logits = draw(st.integers(max(0, left - behind), min(count, left)))
        left -= logits
        places.append(len(rows) if count else None)
        if count:
            tokens = np.array(draw(st.lists(st.integers(70, 99), min_size=count, max_size=count)), np.int64)
            rows.append(Row(slot, draw(st.integers(0, CAPACITY - LENGTH)), tokens, logits=logits))
    starts = draw(st.lists(st.integers(0, CAPACITY - LENGTH), min_size=SLOTS, max_size=SLOTS))
    return Batch(0, tuple(places), LENGTH), rows, starts


@settings(max_examples=60, deadline=None)
@given(st.lists(runs(), min_size=2, max_size=5))
def test_arrays_that_are_used_again_hold_what_fresh_ones_would(
    several: list[tuple[Batch, list[Row], list[int]]],
) -> None:
    kept = inputs()
    for batch, rows, starts in several:
        fresh = inputs()
        assert kept.fill(batch, rows, starts, IMAGE_TOKEN) == fresh.fill(batch, rows, starts, IMAGE_TOKEN)
        for name, array in fresh.feeds.items():
            assert np.array_equal(kept.feeds[name], array), name
        ends = [(place * LENGTH + len(rows[i].tokens), rows[i]) for place, i in enumerate(batch.rows) if i is not None]
        asked = [at for end, row in ends for at in range(end - row.logits, end)]
        assert kept.feeds["logit_rows"].tolist() == asked
