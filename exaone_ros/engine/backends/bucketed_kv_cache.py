"""KV caches in buckets by length, so that a short sequence does not pay for a long one.

Attention costs by the capacity of the cache that it runs over. Slots that hold little live in a cache of small
capacity, those that hold more in the next one; a slot moves up when it outgrows its bucket, with what it holds. Each
bucket has room for all slots, so that neighbours stay neighbours; the system gives out its pages only as they are
written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.backends.kv_cache import CAPACITY_STEP, HostKvCache, KvCache, neighbours
from exaone_ros.engine.backends.ring import Ring
from exaone_ros.model.config import TextConfig

SHORT_BUCKETS = (128, 192, 256, 384, 512)
"""A prompt head of a small image, questions on it, longer answers: each pays for its own length."""
BUCKET_GROWTH = 4
ROOM_BEHIND_COPY = 64
"""Who copies a prompt head writes a question behind it at once, and should not have to move for that."""

Cache = TypeVar("Cache", bound=KvCache)
Move = Callable[[Cache, int, Cache, Sequence[int], int], None]


def bucket_bounds(context: int) -> tuple[int, ...]:
    """Positions that the slots of each bucket may hold, ascending; the last is the context."""
    bounds = [bound for bound in SHORT_BUCKETS if bound < context]
    bound = SHORT_BUCKETS[-1] * BUCKET_GROWTH
    while bound < context:
        bounds.append(bound)
        bound *= BUCKET_GROWTH
    return (*bounds, context)


class BucketedKvCache(Generic[Cache]):
    """Which bucket each slot lives in, and its moves between them.

    Args:
        bounds: of the buckets, ascending.
        caches: one for each bound, all of the same tensors and slots.
        slots: how many there are.
        move: copies the first positions of a slot of one cache into slots of another, both with room for them.
    """

    def __init__(self, bounds: Sequence[int], caches: Sequence[Cache], slots: int, move: Move[Cache]) -> None:
        self.bounds, self.caches = tuple(bounds), tuple(caches)
        self._move = move
        self._bucket = [0] * slots  # a list: asked for one slot at a time, in every step

    def bucket(self, slot: int) -> int:
        """Number of the bucket that a slot lives in."""
        return self._bucket[slot]

    def held_in(self, bucket: int, held: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of `held` [slots], what lies in this bucket: nothing for slots that live elsewhere."""
        return np.where(np.array(self._bucket) == bucket, held, 0)

    def company(self, rows: Sequence[tuple[int, int, int]]) -> int:
        """The least bucket for the rows of a call, each a slot, a start and an end.

        Among short rows those that hold more decide for all: a run of its own costs a row more than a larger capacity.
        """
        wanted = (max(self.bucket(slot) if start else 0, self._bucket_of(end)) for slot, start, end in rows)
        return max((bucket for bucket in wanted if self.bounds[bucket] <= SHORT_BUCKETS[-1]), default=0)

    def fit(self, slot: int, start: int, end: int, held: NDArray[np.int64], least: int = 0) -> set[int]:
        """Let a slot live where `end` positions fit, keeping its first `start`: the caller's `held` must say so next.

        Args:
            slot: that is to be written to.
            start: where.
            end: behind the last position.
            held: int64 [slots].
            least: bucket that it should live in at least.

        Returns:
            The buckets whose memory moved.
        """
        wanted = max(self._bucket_of(end), least)
        found = self.bucket(slot)
        if wanted == found or (wanted < found and start):
            return set()
        moved = self._carry(slot, found, [slot], wanted, start, held) if start else set()
        self._bucket[slot] = wanted
        return moved

    def crowds(self, bucket: int) -> bool:
        """Whether a long slot can make runs in its bucket expensive, and has somewhere to go."""
        return bucket + 1 < len(self.bounds) and self.bounds[bucket] > SHORT_BUCKETS[-1]

    def make_way(self, bucket: int, positions: int, running: Collection[int], held: NDArray[np.int64]) -> set[int]:
        """Move slots up whose length would make a run over `positions` more expensive than it need be.

        So a long sequence that pauses beside short ones costs them one copy, not a share of every step.

        Args:
            bucket: where the run takes place.
            positions: that it needs.
            running: slots that take part in it.
            held: int64 [slots].

        Returns:
            The buckets whose memory moved.
        """
        moved: set[int] = set()
        if not self.crowds(bucket):
            return moved
        enough = -(-positions // CAPACITY_STEP) * CAPACITY_STEP
        too_long = np.flatnonzero(self.held_in(bucket, held) > enough).tolist()
        moved_up = [slot for slot in too_long if slot not in running]
        for slot in moved_up:
            moved |= self._carry(slot, bucket, [slot], bucket + 1, int(held[slot]), held)
            self._bucket[slot] = bucket + 1
        if moved_up and self.caches[bucket].ensure(positions, self.held_in(bucket, held), tight=True):
            moved.add(bucket)
        return moved

    def copy(self, source: int, targets: Sequence[int], length: int, held: NDArray[np.int64]) -> set[int]:
        """Copy the first `length` positions of a slot into others; returns the buckets whose memory moved."""
        wanted, found = self._bucket_of(length + ROOM_BEHIND_COPY), self.bucket(source)
        if not length:
            moved: set[int] = set()
        elif wanted == found:
            self.caches[found].copy(source, targets, length)
            moved = set()
        else:
            moved = self._carry(source, found, targets, wanted, length, held)
        for target in targets:
            self._bucket[target] = wanted
        return moved

    def _bucket_of(self, positions: int) -> int:
        return min(bisect_left(self.bounds, positions), len(self.bounds) - 1)

    def _carry(
        self, source: int, found: int, targets: Sequence[int], wanted: int, length: int, held: NDArray[np.int64]
    ) -> set[int]:
        there = self.held_in(wanted, held)
        there[list(targets)] = 0
        grown = self.caches[wanted].ensure(max(1, length), there)
        self._move(self.caches[found], source, self.caches[wanted], targets, length)
        return {wanted} if grown else set()


def host_buckets(
    config: TextConfig, slots: int, context: int, ring: Ring | None = None
) -> BucketedKvCache[HostKvCache]:
    """Buckets in main memory."""
    bounds = bucket_bounds(context)
    caches = [
        HostKvCache(config, slots, bound, shorter + 1, ring)
        for shorter, bound in zip((0, *bounds), bounds, strict=False)
    ]
    return BucketedKvCache(bounds, caches, slots, _move_on_host)


def one_bucket(cache: Cache, slots: int, context: int) -> BucketedKvCache[Cache]:
    """A cache of full capacity as the only bucket."""
    return BucketedKvCache((context,), (cache,), slots, _never)


def _move_on_host(source: HostKvCache, slot: int, target: HostKvCache, targets: Sequence[int], length: int) -> None:
    for name in source.names:
        # A ring that has wrapped is as long in both: all of it. One that has not holds positions at their own places.
        content, view = source.view(name)[slot, :, :length], target.view(name)
        for first, end in neighbours(targets):
            view[first:end, :, :length] = content[:, : view.shape[2]]


def _never(source: KvCache, slot: int, target: KvCache, targets: Sequence[int], length: int) -> None:
    raise AssertionError("there is one bucket only")
