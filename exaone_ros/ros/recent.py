"""The newest messages of a topic by stamp, for whoever needs the image that an answer was read from. Knows no rclpy."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from exaone_ros.geometry.tracks import SET_BACK_NS

T = TypeVar("T")


class RecentMessages(Generic[T]):
    """Holds messages for a while, bounded in time, number and bytes. Called from one thread.

    Args:
        keep_ns: a message this much older than the newest is let go.
        max_bytes: the oldest are let go beyond this many bytes in all; the newest always stays.
        max_count: and beyond this many.
    """

    def __init__(self, keep_ns: int, max_bytes: int = 256_000_000, max_count: int = 600) -> None:
        self._keep_ns, self._max_bytes, self._max_count = keep_ns, max_bytes, max_count
        self._held: OrderedDict[int, tuple[T, int]] = OrderedDict()
        self._bytes = 0
        self._newest_ns: int | None = None

    def __len__(self) -> int:
        return len(self._held)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest message, None where there is none."""
        return self._newest_ns

    def put(self, stamp_ns: int, message: T, size_bytes: int = 0) -> bool:
        """Hold one message; False where its stamp is not newer than the newest one's, unless the clock was set back.

        A stamp older than the newest by more than `SET_BACK_NS` means that the clock began anew (a simulator was reset,
        a bag began again): what was held is forgotten, however short the run had been. It is of another world, and may
        bear the very stamps that come now.
        """
        newest = self.newest_ns
        if newest is not None and stamp_ns <= newest:
            if newest - stamp_ns <= SET_BACK_NS:
                return False
            self.clear()
        self._held[stamp_ns] = (message, size_bytes)
        self._bytes += size_bytes
        self._newest_ns = stamp_ns
        while len(self._held) > 1 and (
            next(iter(self._held)) < stamp_ns - self._keep_ns
            or self._bytes > self._max_bytes
            or len(self._held) > self._max_count
        ):
            _, (_, size) = self._held.popitem(last=False)
            self._bytes -= size
        return True

    def at(self, stamp_ns: int) -> T | None:
        """The message with exactly this stamp."""
        entry = self._held.get(stamp_ns)
        return entry[0] if entry is not None else None

    def nearest(self, stamp_ns: int, tolerance_ns: int) -> tuple[int, T] | None:
        """(stamp, message) nearest to a time, None where none is within the tolerance."""
        if not self._held:
            return None
        best = min(self._held, key=lambda held_ns: abs(held_ns - stamp_ns))
        return (best, self._held[best][0]) if abs(best - stamp_ns) <= tolerance_ns else None

    def after(self, stamp_ns: int) -> list[tuple[int, T]]:
        """(stamp, message) of everything newer than a time, oldest first."""
        return [(held_ns, message) for held_ns, (message, _) in self._held.items() if held_ns > stamp_ns]

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._bytes, self._newest_ns = 0, None
