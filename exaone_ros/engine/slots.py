"""Which KV slots are free."""

from __future__ import annotations

import bisect

from exaone_ros.errors import EngineError


class SlotPool:
    """Hands out KV slots: questions from the lowest on, prompt heads from the highest down.

    So the questions that run together are neighbours, which a backend can run as one batch, whatever is kept besides.
    Not thread-safe: belongs to whoever drives the backend.
    """

    def __init__(self, slots: int) -> None:
        self._free = list(range(slots))
        self.size = slots

    @property
    def free(self) -> tuple[int, ...]:
        """Slots that nobody holds, ascending."""
        return tuple(self._free)

    def acquire(self, purpose: str, *, highest: bool = False) -> int:
        """Take the lowest free slot, or the highest.

        Raises:
            EngineError: none is free.
        """
        if not self._free:
            raise EngineError(
                f"no free KV slot for {purpose}: all {self.size} are held; "
                "release frames or open the engine with more slots"
            )
        return self._free.pop(-1 if highest else 0)

    def release(self, slot: int) -> None:
        """Give a slot back."""
        if slot in self._free or not 0 <= slot < self.size:
            raise EngineError(f"KV slot {slot} was given back, but nobody holds it")
        bisect.insort(self._free, slot)
