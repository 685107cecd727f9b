"""Fresh or nothing: which image stamps may be answered. Knows numbers (nanoseconds), no ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Refusal = Literal["no_clock", "zero_stamp", "future_stamp", "stale", "repeated_stamp", "out_of_order"]


@dataclass(frozen=True)
class Freshness:
    """What counts as fresh.

    Attributes:
        max_age_ns: an image older than this is not answered, an answer older than this not published.
        tolerance_ns: how far a stamp may lie in the future (clocks of two machines, or a simulator whose images
            overtake its clock), and how far the clock may step back before that is taken for a restart.
    """

    max_age_ns: int
    tolerance_ns: int

    def too_old(self, stamp_ns: int, now_ns: int) -> bool:
        """True for a stamp older than `max_age_ns`."""
        return now_ns - stamp_ns > self.max_age_ns

    def ahead(self, stamp_ns: int, now_ns: int) -> bool:
        """True for a stamp further in the future than `tolerance_ns`.

        Of a frame that was fresh when it came this says that the clock has gone back since.
        """
        return stamp_ns > now_ns + self.tolerance_ns


class StampGate:
    """Judges the stamps of one camera as they arrive. One thread calls it."""

    def __init__(self) -> None:
        self._last_stamp_ns = 0
        self._latest_now_ns = 0
        self.restarts = 0
        """How often the clock went back: a simulator that was reset, a bag that began again."""

    def refusal(self, stamp_ns: int, now_ns: int, rule: Freshness) -> Refusal | None:
        """Say why an image with this stamp is not to be answered, None where it may be.

        Stamps must rise. When the node's own clock goes back (a simulator was reset), what was seen before is
        forgotten, so that the images after the reset are taken at once.

        Args:
            stamp_ns: of the image.
            now_ns: the node's clock; 0 while a simulated clock has not been heard of.
            rule: what counts as fresh.
        """
        if now_ns <= 0:
            return "no_clock"
        if now_ns < self._latest_now_ns - rule.tolerance_ns:
            self._last_stamp_ns, self._latest_now_ns = 0, 0
            self.restarts += 1
        self._latest_now_ns = max(self._latest_now_ns, now_ns)
        if stamp_ns <= 0:
            return "zero_stamp"  # its age is unknown, so it cannot be shown to be fresh
        if rule.ahead(stamp_ns, now_ns):
            return "future_stamp"
        if rule.too_old(stamp_ns, now_ns):
            return "stale"
        if stamp_ns == self._last_stamp_ns:
            return "repeated_stamp"
        if stamp_ns < self._last_stamp_ns:
            return "out_of_order"
        self._last_stamp_ns = stamp_ns
        return None
