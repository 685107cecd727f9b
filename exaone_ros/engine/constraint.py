"""What may be decoded next: the seam between a sequence and the rules that its text obeys.

A sequence runs under a chain of constraints: first the reasoning where a question wants it, then the answer.
"""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.token_table import TokenTable

THINK_END = b"</think>"
AFTER_THINKING = b"\n\n"
"""What the chat template puts between the reasoning and the answer."""


class Constraint(Protocol):
    """Decides which tokens may follow. Stateful: one for each sequence."""

    @property
    def complete(self) -> bool:
        """True once nothing more may follow; the other methods are not called any more."""
        ...

    def forced(self) -> list[int]:
        """All tokens that have to follow now, empty where there is a choice; they count as taken."""
        ...

    def spelled(self) -> tuple[int, ...]:
        """The tokenizer's spelling of text that has to follow but may be made of other tokens too; mostly empty."""
        ...

    def allowed(self) -> NDArray[np.int64]:
        """Ids among which to choose, ascending, not empty. The caller only reads the array."""
        ...

    def take(self, token: int) -> None:
        """Go on with one of the allowed tokens."""
        ...

    def copy(self) -> Constraint:
        """One in the same state that goes on by itself."""
        ...


class FreeText:
    """Any text up to the end of the turn; special tokens cannot occur in it."""

    def __init__(self, table: TokenTable) -> None:
        self._end = frozenset(table.end_of_turn)
        self._allowed = table.text_or_end
        self.complete = False

    def forced(self) -> list[int]:
        return []

    def spelled(self) -> tuple[int, ...]:
        return ()

    def allowed(self) -> NDArray[np.int64]:
        return self._allowed

    def take(self, token: int) -> None:
        self.complete = token in self._end

    def copy(self) -> FreeText:
        return copy.copy(self)


class Thinking:
    """Reasoning in free text, closed by the model or, when its budget is used up, by the host.

    The closing tag is found in the text, not by id: in the released tokenizer it is made of several tokens, in which
    the last may reach over its end.

    Args:
        table: of the model's tokens.
        budget: tokens of reasoning at most, >= 1; closing it is not counted.
    """

    def __init__(self, table: TokenTable, budget: int) -> None:
        self._table = table
        self._budget = budget
        self._taken = 0
        self._text = bytearray()
        self._forced: list[int] = []
        self.complete = False
        self.concluded = False
        """True where a budget, not the model, ended the reasoning."""

    @property
    def text(self) -> str:
        """The reasoning so far, without tags."""
        return self.content.decode("utf-8", "replace").strip()

    @property
    def content(self) -> bytes:
        """The bytes of the reasoning so far, up to the closing tag."""
        return bytes(self._text).partition(THINK_END)[0]

    @property
    def settled(self) -> bytes:
        """`content` without an end that may yet become the closing tag."""
        content = self.content
        begun = max((n for n in range(1, len(THINK_END)) if content.endswith(THINK_END[:n])), default=0)
        return content[: len(content) - begun]

    def conclude(self) -> None:
        """Close the reasoning now: what closes it is forced next."""
        if self._forced or self.complete:
            return
        self.concluded = True
        newline = b"" if self._text.endswith(b"\n") else b"\n"
        self._force(newline + THINK_END + AFTER_THINKING)

    def forced(self) -> list[int]:
        tokens, self._forced = self._forced, []
        self.complete = self.concluded or THINK_END in self._text
        return tokens

    def spelled(self) -> tuple[int, ...]:
        return ()

    def allowed(self) -> NDArray[np.int64]:
        table = self._table
        tag_begun = any(self._text.endswith(THINK_END[:n]) for n in range(1, len(THINK_END)))
        if not tag_begun:
            return table.thinking_tokens
        # a token that closes the tag and goes on with words would start the answer outside of its grammar
        tail = bytes(self._text[-len(THINK_END) :])
        overshooting = [
            token
            for token, text in table.tokens_past_bracket
            if THINK_END in (joined := tail + text) and not AFTER_THINKING.startswith(joined.partition(THINK_END)[2])
        ]
        return np.setdiff1d(table.thinking_tokens, overshooting, assume_unique=True)

    def take(self, token: int) -> None:
        self._taken += 1
        self._text += self._table.token_bytes[token]
        _, tag, after = bytes(self._text).partition(THINK_END)
        if tag:
            self._force(AFTER_THINKING[len(after) :])
        elif self._taken >= self._budget:
            self.conclude()

    def copy(self) -> Thinking:
        other = copy.copy(self)
        other._text, other._forced = bytearray(self._text), list(self._forced)
        return other

    def _force(self, text: bytes) -> None:
        self._forced = self._table.encode_markup(text.decode()) if text else []
