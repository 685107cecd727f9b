"""Decoded bytes to pieces of text for whoever listens."""

from __future__ import annotations

import codecs
import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Listener:
    """Somebody else's function, given pieces of text; not called again once it raised, and nobody suffers from it."""

    def __init__(self, listener: Callable[[str], None]) -> None:
        self._listener: Callable[[str], None] | None = listener

    def __call__(self, text: str) -> None:
        if self._listener is None:
            return
        try:
            self._listener(text)
        except Exception:  # somebody else's code; the answer is not to suffer from it
            _log.exception("a listener to decoded text failed; it is not called any more")
            self._listener = None


class TextStream:
    """Hands out a growing text piece by piece, each of them whole characters.

    Args:
        listener: given each piece; not called again once it raised.
        stripped: leave out whitespace at both ends of the whole text.
    """

    def __init__(self, listener: Callable[[str], None], *, stripped: bool = False) -> None:
        self._listener = Listener(listener)
        self._stripped = stripped
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._taken = 0
        self._begun = False
        self._held = ""

    def update(self, data: bytes, *, final: bool = False) -> None:
        """The text so far; `final`: nothing follows."""
        text = self._held + self._decoder.decode(data[self._taken :], final)
        self._taken, self._held = len(data), ""
        if self._stripped:
            text = text if self._begun else text.lstrip()
            kept = text.rstrip()
            if not final:
                self._held = text[len(kept) :]
            text = kept
        if text:
            self._begun = True
            self._listener(text)
