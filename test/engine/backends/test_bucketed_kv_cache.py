"""Slots move between buckets with what they hold, and nobody else notices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.tiny_checkpoint import tiny_config

from exaone_ros.engine.backends.bucketed_kv_cache import bucket_bounds, host_buckets
from exaone_ros.model.config import ModelConfig

CONFIG = ModelConfig.parse(tiny_config()).text
SLOTS, CONTEXT = 4, 1100


class Written:
    """Buckets used as a backend uses them, and what each slot must hold by now."""

    def __init__(self) -> None:
        self.buckets = host_buckets(CONFIG, SLOTS, CONTEXT)
        self.held = np.zeros(SLOTS, np.int64)
        self._expected = [np.zeros(0, np.float32) for _ in range(SLOTS)]

    def write(self, slot: int, start: int, end: int) -> None:
        """A row of end - start tokens."""
        self.buckets.fit(slot, start, end, self.held)
        self.held[slot] = start
        bucket = self.buckets.bucket(slot)
        cache = self.buckets.caches[bucket]
        cache.ensure(end, self.buckets.held_in(bucket, self.held))
        values = np.random.default_rng([slot, start, end]).normal(size=end - start).astype(np.float32)
        for name in cache.names:
            cache.view(name)[slot, :, start:end] = values[None, :, None]
        self.held[slot] = end
        self._expected[slot] = np.concatenate([self._expected[slot][:start], values])

    def copy(self, source: int, target: int, length: int) -> None:
        self.buckets.copy(source, [target], length, self.held)
        self.held[target] = length
        self._expected[target] = self._expected[source][:length].copy()

    def check(self) -> None:
        for slot, expected in enumerate(self._expected):
            cache = self.buckets.caches[self.buckets.bucket(slot)]
            for name in cache.names:
                assert (cache.view(name)[slot, :, : expected.size] == expected[None, :, None]).all()


@pytest.mark.parametrize(
    ("context", "bounds"),
    [(100, (100,)), (512, (512,)), (513, (512, 513)), (1024, (512, 1024)), (9000, (512, 2048, 8192, 9000))],
)
def test_bounds_reach_up_to_the_context(context: int, bounds: tuple[int, ...]) -> None:
    assert bucket_bounds(context) == bounds


def test_a_long_slot_leaves_the_capacity_of_short_ones_alone() -> None:
    written = Written()
    buckets = written.buckets
    for slot, start, end in ((0, 0, 100), (1, 0, 500), (1, 500, 700), (2, 0, 60)):
        written.write(slot, start, end)
    assert [buckets.bucket(slot) for slot in range(3)] == [0, 1, 0]
    assert buckets.caches[0].capacity == 128 and buckets.caches[1].capacity == 768
    written.copy(1, 3, 90)
    assert buckets.bucket(3) == 0, "a copy of little lives with the short ones"
    written.write(1, 600, 650)
    assert buckets.bucket(1) == 1
    written.write(1, 300, 310)
    assert buckets.bucket(1) == 1, "nobody moves down while it holds something"
    written.check()
    written.write(1, 0, 10)
    assert buckets.bucket(1) == 0, "a new start is a new choice"
    written.check()


def test_a_long_slot_makes_way_for_a_run_of_short_ones() -> None:
    written = Written()
    buckets = written.buckets
    for slot, end in ((0, 300), (1, 450), (2, 100), (3, 380)):
        written.write(slot, 0, end)
    assert buckets.caches[0].capacity == 512
    assert 1 in buckets.make_way(0, 301, {0}, written.held)
    assert [buckets.bucket(slot) for slot in range(4)] == [0, 1, 0, 0], "380 fit into the 384 that the run takes anyway"
    written.write(0, 300, 301)
    assert buckets.caches[0].capacity == 384
    written.check()
    assert buckets.make_way(1, 1, set(), written.held) == set(), "nowhere to go from the last bucket"


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, SLOTS - 1), st.integers(1, SLOTS - 1), st.integers(1, CONTEXT)),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_whatever_is_written_and_copied_stays(actions: list[tuple[bool, int, int, int]]) -> None:
    written = Written()
    for copy, slot, step, length in actions:
        held = int(written.held[slot])
        if copy:
            written.copy(slot, (slot + step) % SLOTS, min(length, held))
        else:
            written.write(slot, min(held, length - 1), length)
        written.check()
