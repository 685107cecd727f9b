"""One state of a robot out of joint states that may come in several messages, one for each driver. Knows no node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.spec import NS

SET_BACK_S = 1.0
"""A joint whose state is this much older than its last one shows a clock that was set back, as by a reset."""


class JointParts:
    """Puts the joints together; one thread calls it.

    A state is as old as its oldest part, and there is a new one only when every joint has come anew: a driver that is
    silent stops the states, however often the others speak, and also where its clock is ahead of theirs.

    Args:
        wanted: names of the joints, in the order of the state.
    """

    def __init__(self, wanted: Sequence[str]) -> None:
        self._wanted = tuple(wanted)
        self._parts: dict[str, tuple[int, float]] = {}
        self._awaited = set(self._wanted)  # since the last state
        self._told_ns: int | None = None

    @property
    def missing(self) -> list[str]:
        """Joints that have not come yet."""
        return [name for name in self._wanted if name not in self._parts]

    def put(
        self, stamp_ns: int, names: Sequence[str], positions: Sequence[float]
    ) -> tuple[int, NDArray[np.float32]] | None:
        """Take the joints of one message; those that are not wanted, and names without a position, are ignored.

        Returns:
            Stamp and positions [S] of a new state; None where this message makes none.
        """
        known = dict(zip(names, positions, strict=False))
        own = {name: (stamp_ns, float(known[name])) for name in self._wanted if name in known}
        if len(own) == len(self._wanted):  # the whole state at once, whatever its stamp
            self._parts = own
            return self._state(stamp_ns)
        before_ns = [self._parts[name][0] for name in own if name in self._parts]
        if before_ns and stamp_ns < max(before_ns) - SET_BACK_S * NS:
            self._parts, self._awaited, self._told_ns = {}, set(self._wanted), None
        newer = {name: part for name, part in own.items() if stamp_ns >= self._parts.get(name, part)[0]}
        self._parts |= newer
        self._awaited -= newer.keys()
        if not newer or self._awaited:
            return None
        oldest_ns = min(stamp for stamp, _ in self._parts.values())
        if self._told_ns is not None and oldest_ns <= self._told_ns:
            return None
        return self._state(oldest_ns)

    def _state(self, stamp_ns: int) -> tuple[int, NDArray[np.float32]]:
        self._awaited, self._told_ns = set(self._wanted), stamp_ns
        return stamp_ns, np.array([self._parts[name][1] for name in self._wanted], np.float32)
