"""What an engine hands over for reading: the decoded text and the probability of each of its tokens.

Bytes, not characters: a token may end in the middle of a Korean syllable.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    alternatives: tuple[tuple[bytes, float], ...] = ()

    @property
    def forced(self) -> bool:
        """True where the grammar left no choice (or the host wrote the token itself)."""
        return not self.alternatives


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

    def spans(self) -> list[tuple[int, int, TokenEvidence]]:
        """The tokens with their byte offsets `(start, end, token)` in the UTF-8 of `text`."""
        out, at = [], 0
        for token in self.tokens:
            out.append((at, at + len(token.text), token))
            at += len(token.text)
        return out
