"""Slots move between buckets with what they hold, and nobody else notices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.tiny_checkpoint import tiny_config

from exaone_ros.engine.backends.bucketed_kv_cache import bucket_bounds, host_buckets
from exaone_ros.engine.backends.ring import Intact, Ring
from exaone_ros.model.config import ModelConfig

CONFIG = ModelConfig.parse(tiny_config()).text
SLOTS, CONTEXT = 4, 1100


class Written:
    """Buckets used as a backend uses them, and what each slot must hold by now."""

    def __init__(self, context: int = CONTEXT, ring: Ring | None = None) -> None:
        self.buckets = host_buckets(CONFIG, SLOTS, context, ring)
        self.intact = Intact(ring, SLOTS)
        self.held = np.zeros(SLOTS, np.int64)
        self._expected = [np.zeros(0, np.float32) for _ in range(SLOTS)]

    def write(self, slot: int, start: int, end: int) -> None:
        """A row of end - start tokens."""
        self.buckets.fit(slot, start, end, self.held)
        self.held[slot] = start
        if start == 0:
            self.intact.restart(slot)
        self.intact.wrote(slot, end)
        bucket = self.buckets.bucket(slot)
        cache = self.buckets.caches[bucket]
        cache.ensure(end, self.buckets.held_in(bucket, self.held))
        values = np.random.default_rng([slot, start, end]).normal(size=end - start).astype(np.float32)
        for name in cache.names:
            view = cache.view(name)
            for position, value in enumerate(values, start):
                view[slot, :, position % view.shape[2]] = value
        self.held[slot] = end
        self._expected[slot] = np.concatenate([self._expected[slot][:start], values])

    def copy(self, source: int, target: int, length: int) -> None:
        self.buckets.copy(source, [target], length, self.held)
        self.held[target] = length
        self.intact.copied(source, [target])
        self._expected[target] = self._expected[source][:length].copy()

    def check(self) -> None:
        for slot, expected in enumerate(self._expected):
            cache = self.buckets.caches[self.buckets.bucket(slot)]
            for name in cache.names:
                view, sliding = cache.view(name), CONFIG.is_sliding(int(name[2:]))
                there = np.arange(self.intact.first(slot) if sliding else 0, expected.size)
                assert (view[slot, :, there % view.shape[2]] == expected[there, None, None]).all()


@pytest.mark.parametrize(
    ("context", "bounds"),
    [
        (100, (100,)),
        (128, (128,)),
        (400, (128, 192, 256, 384, 400)),
        (513, (128, 192, 256, 384, 512, 513)),
        (9000, (128, 192, 256, 384, 512, 2048, 8192, 9000)),
    ],
)
def test_bounds_reach_up_to_the_context(context: int, bounds: tuple[int, ...]) -> None:
    assert bucket_bounds(context) == bounds


def test_a_long_slot_leaves_the_capacity_of_short_ones_alone() -> None:
    written = Written()
    buckets = written.buckets
    for slot, start, end in ((0, 0, 100), (1, 0, 500), (1, 500, 700), (2, 0, 60)):
        written.write(slot, start, end)
    assert [buckets.bucket(slot) for slot in range(3)] == [0, 5, 0]
    assert buckets.caches[0].capacity == 128 and buckets.caches[5].capacity == 768
    written.copy(1, 3, 60)
    assert buckets.bucket(3) == 0, "a copy of little lives with the short ones"
    written.copy(1, 3, 90)
    assert buckets.bucket(3) == 1, "but has room for what is written behind it"
    written.write(1, 600, 650)
    assert buckets.bucket(1) == 5
    written.write(1, 300, 310)
    assert buckets.bucket(1) == 5, "nobody moves down while it holds something"
    written.check()
    written.write(1, 0, 10)
    assert buckets.bucket(1) == 0, "a new start is a new choice"
    written.check()


def test_a_long_slot_makes_way_for_a_run_of_short_ones() -> None:
    written = Written(3000)
    buckets = written.buckets
    for slot, end in ((0, 600), (1, 1500), (2, 513), (3, 610)):
        written.write(slot, 0, end)
    assert [buckets.bucket(slot) for slot in range(4)] == [5, 5, 5, 5] and buckets.caches[5].capacity == 1536
    assert 5 in buckets.make_way(5, 601, {0}, written.held)
    assert [buckets.bucket(slot) for slot in range(4)] == [5, 6, 5, 5], "610 fit into the 640 that the run takes anyway"
    written.write(0, 600, 601)
    assert buckets.caches[5].capacity == 640
    written.check()
    assert buckets.make_way(6, 1, set(), written.held) == set(), "nowhere to go from the last bucket"


def test_short_rows_of_a_call_live_together_and_long_ones_elsewhere() -> None:
    written = Written()
    buckets = written.buckets
    for slot, end in ((0, 100), (1, 200), (2, 700)):
        written.write(slot, 0, end)
    assert [buckets.bucket(slot) for slot in range(3)] == [0, 2, 5]
    least = buckets.company([(0, 100, 101), (1, 200, 201), (2, 700, 701)])
    assert least == 2, "the longer of the short ones decides; the long one does not"
    assert buckets.company([(0, 100, 101)]) == 0 and buckets.company([(2, 700, 701)]) == 0
    assert buckets.company([(1, 0, 90)]) == 0, "a row that starts anew goes where it fits"
    buckets.fit(0, 100, 101, written.held, least)
    buckets.fit(2, 700, 701, written.held, least)
    assert [buckets.bucket(slot) for slot in range(3)] == [2, 2, 5]
    written.check()


def test_memory_of_a_short_bucket_never_moves() -> None:
    """What a decode step has bound to it stays bound."""
    written = Written()
    capacities = [cache.capacity for cache in written.buckets.caches]
    for slot, end in ((0, 180), (1, 250), (2, 380), (0, 20), (1, 512), (3, 130)):
        written.write(slot, 0, end)
        assert [cache.capacity for cache in written.buckets.caches] == capacities == [128, 192, 256, 384, 512, 640]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, SLOTS - 1), st.integers(1, SLOTS - 1), st.integers(1, CONTEXT)),
        min_size=1, max_size=12,
    ),
    st.sampled_from([None, Ring(24, 16, 40), Ring(24, 300, 324), Ring(500, 200, 700)]),
)  # fmt: skip
def test_whatever_is_written_and_copied_stays(actions: list[tuple[bool, int, int, int]], ring: Ring | None) -> None:
    """In rings shorter than a step of the capacity, than a bucket, and longer than the first bucket; and without."""
    written = Written(ring=ring)
    for copy, slot, step, length in actions:
        held = int(written.held[slot])
        wish = min(length, held) if copy else min(held, length - 1)
        at = wish if written.intact.keeps(slot, wish) else 0
        if copy:
            written.copy(slot, (slot + step) % SLOTS, at)
        else:
            written.write(slot, at, length)
        written.check()
