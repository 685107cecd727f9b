"""Says which of the things that must keep coming has stopped coming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from exaone_ros.action.spec import NS
from exaone_ros.errors import ActionError


@dataclass(frozen=True)
class Late:
    """A source that has been silent for too long. Attributes: its name, seconds of silence, seconds allowed."""

    source: str
    silent_s: float
    allowed_s: float


class Watchdog:
    """Watches sources by the time their messages arrive, in a steady clock: a simulated clock may stand still.

    A source that was never fed counts as silent since `arm()`.

    Args:
        limits_s: allowed silence of each source.
        armed_ns: steady time from which silence counts.
    """

    def __init__(self, limits_s: Mapping[str, float], armed_ns: int = 0) -> None:
        for source, limit in limits_s.items():
            if not (math.isfinite(limit) and limit > 0):
                raise ActionError(f"watchdog: limit of '{source}' is {limit!r}; expected seconds above 0")
        self._limits_ns = {source: round(limit * NS) for source, limit in limits_s.items()}
        self._fed_ns: dict[str, int] = {}
        self._armed_ns = armed_ns

    def arm(self, steady_ns: int) -> None:
        """Forget what was fed: every source has to come again from now on."""
        self._fed_ns.clear()
        self._armed_ns = steady_ns

    def feed(self, source: str, steady_ns: int) -> None:
        """Note that `source` came.

        Raises:
            ActionError: nobody watches this source.
        """
        if source not in self._limits_ns:
            raise ActionError(f"watchdog: '{source}' is not watched; expected one of {sorted(self._limits_ns)}")
        self._fed_ns[source] = steady_ns

    def fed(self, source: str) -> bool:
        """True once `source` came since `arm()`."""
        return source in self._fed_ns

    def late(self, steady_ns: int) -> tuple[Late, ...]:
        """The sources that have been silent for longer than allowed, in the order of the limits."""
        late = []
        for source, limit_ns in self._limits_ns.items():
            silent_ns = steady_ns - self._fed_ns.get(source, self._armed_ns)
            if silent_ns > limit_ns:
                late.append(Late(source, silent_ns / NS, limit_ns / NS))
        return tuple(late)
