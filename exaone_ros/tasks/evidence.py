"""What an engine hands over for reading: the decoded text and the probability of each of its tokens.

Bytes, not characters: a token may end in the middle of a Korean syllable.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Protocol


@dataclass(frozen=True)
class TokenEvidence:
    """One decoded token.

    Attributes:
        text: the token's bytes.
        probability: of this token among those the grammar allowed here, 0..1; 1.0 for a forced token.
        alternatives: the allowed tokens with their probabilities, the taken one included, most probable first.
            The engine may cut the list; what is cut is the remainder to 1. Empty for a forced token.
    """

    text: bytes
    probability: float = 1.0
    alternatives: Sequence[tuple[bytes, float]] = ()

    @property
    def forced(self) -> bool:
        """True where the grammar left no choice (or the host wrote the token itself)."""
        return not self.alternatives

    def agreement(self, length: int) -> float:
        """Probability that the allowed tokens agree with this one in its first `length` bytes.

        From 1.0 for none of its bytes down to `probability` for all of them: the ratio of two values is the
        probability of the bytes between, so that one token can tell of two decisions, such as the end of a label and
        whether another object follows. Shorter tokens that may still go on in the same way are counted as different.
        """
        if length <= 0 or self.forced:
            return 1.0
        if length >= len(self.text):
            return self.probability
        head = self.text[:length]
        return min(1.0, sum(probability for text, probability in self.alternatives if text.startswith(head)))


class Chosen(Protocol):
    """How sure a choice was, computed when it is first read."""

    @property
    def alone(self) -> bool:
        """One token was allowed: there are no alternatives."""
        ...

    @property
    def probability(self) -> float:
        """Of the token that was taken, 0..1."""
        ...

    @property
    def alternatives(self) -> Sequence[tuple[int, float]]:
        """Ids of the tokens that were allowed, with their probabilities, most probable first."""
        ...


class LaterEvidence(TokenEvidence):
    """Evidence of a choice whose probabilities are computed when they are first read.

    A box has four coordinates of a thousand alternatives each, and its score needs none of them.

    Args:
        text: the token's bytes.
        chosen: the choice.
        names: the bytes of every token, by its id.
    """

    def __init__(self, text: bytes, chosen: Chosen, names: Sequence[bytes]) -> None:
        object.__setattr__(self, "text", text)  # as every frozen dataclass does
        object.__setattr__(self, "_chosen", chosen)
        object.__setattr__(self, "_names", names)

    @cached_property
    def probability(self) -> float:  # type: ignore[override]
        return self._chosen.probability  # type: ignore[attr-defined, no-any-return]

    @cached_property
    def alternatives(self) -> Sequence[tuple[bytes, float]]:  # type: ignore[override]
        names = self._names  # type: ignore[attr-defined]
        return tuple((names[token], probability) for token, probability in self._chosen.alternatives)  # type: ignore[attr-defined]

    @property
    def forced(self) -> bool:
        return bool(self._chosen.alone)  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenEvidence) and self._content == (other.text, other.probability, other.alternatives)

    def __hash__(self) -> int:
        return hash(self._content)

    def __repr__(self) -> str:
        return "TokenEvidence(text={!r}, probability={!r}, alternatives={!r})".format(*self._content)

    @property
    def _content(self) -> tuple[bytes, float, Sequence[tuple[bytes, float]]]:
        return self.text, self.probability, self.alternatives


@dataclass(frozen=True)
class Decoded:
    """One complete answer under a task's schema.

    Attributes:
        text: the answer, think part and end-of-turn token excluded.
        tokens: its tokens in order; their bytes joined are the UTF-8 of `text`. Empty where a backend
            (a server without logprobs) gives no probabilities.
        reasoning: the text between the think tags, empty without thinking.
    """

    text: str
    tokens: tuple[TokenEvidence, ...] = ()
    reasoning: str = ""

    def probability_of(self, start: int, end: int) -> float:
        """Probability of the bytes from `start` up to `end` of the UTF-8 of `text`, given the bytes before them.

        Does not depend on where the tokenizer put its boundaries: a token that reaches over `start` or `end` counts
        with the bytes that lie between them.
        """
        result = 1.0
        first = max(0, bisect.bisect_right(self._starts, start) - 1)
        for token_start, token in zip(self._starts[first:], self.tokens[first:], strict=False):
            if token_start >= end:
                break
            before = token.agreement(start - token_start)
            result *= token.agreement(end - token_start) / before if before else 0.0
        return result

    def spans(self) -> list[tuple[int, int, TokenEvidence]]:
        """The tokens with their byte offsets `(start, end, token)` in the UTF-8 of `text`."""
        return [(start, start + len(t.text), t) for start, t in zip(self._starts, self.tokens, strict=True)]

    @cached_property
    def _starts(self) -> list[int]:
        lengths = [len(token.text) for token in self.tokens[:-1]]
        return list(accumulate(lengths, initial=0)) if self.tokens else []
