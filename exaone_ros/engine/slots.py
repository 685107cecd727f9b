"""Which KV slots are free."""

from __future__ import annotations

from exaone_ros.errors import EngineError


class SlotPool:
    """Hands out KV slots. Not thread-safe: belongs to whoever drives the backend."""

    def __init__(self, slots: int) -> None:
        self._free = list(range(slots))
        self._size = slots

    @property
    def free(self) -> tuple[int, ...]:
        """Slots that nobody holds, in the order in which they will be handed out."""
        return tuple(self._free)

    def acquire(self, purpose: str) -> int:
        """Take a slot.

        Raises:
            EngineError: none is free.
        """
        if not self._free:
            raise EngineError(
                f"no free KV slot for {purpose}: all {self._size} are held; "
                "release frames or open the engine with more slots"
            )
        return self._free.pop(0)

    def release(self, slot: int) -> None:
        """Give a slot back; it is handed out next, so that few slots are touched."""
        if slot in self._free or not 0 <= slot < self._size:
            raise EngineError(f"KV slot {slot} was given back, but nobody holds it")
        self._free.insert(0, slot)
