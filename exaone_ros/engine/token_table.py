"""The tokenizer as decoding sees it: the bytes of each token, and which tokens are ordinary text.

Knows nothing of prompts and chat templates (`model/chat.py` does) and nothing of tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError, require

SPELLINGS_KEPT = 256


class TokenTable:
    """Token ids, their bytes, and the way back from bytes to ids.

    Args:
        tokenizer_json: text of a Hugging Face `tokenizer.json`.
        size: number of logits; ids from the tokenizer's own size up to here are padding and never decoded.
        end_of_turn: ids that end an answer.

    Raises:
        CheckpointError: the tokenizer cannot be read, or an id lies outside the logits.
    """

    def __init__(self, tokenizer_json: str, size: int, end_of_turn: Sequence[int]) -> None:
        llguidance = require("llguidance", "cpu")
        try:
            self.handle: Any = llguidance.LLTokenizer(tokenizer_json, n_vocab=size, eos_token=list(end_of_turn))
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(f"tokenizer.json cannot be used for {size} logits: {error}") from error
        if self.handle.vocab_size != size:
            raise CheckpointError(f"tokenizer.json has {self.handle.vocab_size} tokens; the model gives {size} logits")
        outside = [token for token in end_of_turn if not 0 <= token < size]
        if outside or not end_of_turn:
            raise CheckpointError(f"end-of-turn ids are {list(end_of_turn)}; expected ids from 0 to {size - 1}")
        self.size = size
        self.end_of_turn = tuple(end_of_turn)
        # Schemas have few forced texts, which come back in every answer.
        self.spelled = lru_cache(maxsize=SPELLINGS_KEPT)(self._spell)

    @classmethod
    def open(cls, directory: Path, size: int, end_of_turn: Sequence[int]) -> TokenTable:
        """Read `tokenizer.json` of a checkpoint directory.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        path = Path(directory) / "tokenizer.json"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}; a checkpoint directory needs it") from error
        return cls(text, size, end_of_turn)

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...]:
        """The bytes that each token stands for; a special token has those of its name."""
        return tuple(self.handle.decode_bytes([token]) for token in range(self.size))

    @cached_property
    def byte_tokens(self) -> dict[int, int]:
        """The token of each single byte; byte-level tokenizers have one for every byte that UTF-8 uses."""
        return {text[0]: token for token, text in enumerate(self.token_bytes) if len(text) == 1}

    @cached_property
    def text_tokens(self) -> NDArray[np.int64]:
        """Ids of ordinary text, ascending: no special token, no padding, no tag such as `<think>`."""
        # a padding id decodes to "<[id]>", and llguidance marks it as special like the template's own tokens
        return np.array([t for t in range(self.size) if not self.handle.is_special_token(t)], np.int64)

    @cached_property
    def text_or_end(self) -> NDArray[np.int64]:
        """Ids of ordinary text and those that end the turn, ascending."""
        return np.union1d(self.text_tokens, np.array(self.end_of_turn, np.int64))

    @cached_property
    def thinking_tokens(self) -> NDArray[np.int64]:
        """Ids that may stand in reasoning: ordinary text, and the closing tag where it is one token, ascending."""
        tag = self.encode_markup("</think>")
        ids = np.union1d(self.text_tokens, np.array(tag if len(tag) == 1 else [], np.int64))
        keep = [t for t in ids.tolist() if b"</think>" not in self.token_bytes[t] or [t] == tag]
        return np.array(keep, np.int64)

    @cached_property
    def tokens_past_bracket(self) -> tuple[tuple[int, bytes], ...]:
        """Text tokens that go on behind a ">" with something, as (id, bytes)."""
        pairs = ((token, self.token_bytes[token]) for token in self.text_tokens.tolist())
        return tuple((token, text) for token, text in pairs if b">" in text[:-1])

    def is_special(self, token: int) -> bool:
        """True for ids that must never stand inside text: special tokens, tags, padding."""
        return bool(self.handle.is_special_token(token))

    def _spell(self, text: bytes) -> tuple[int, ...]:
        """The tokens that the tokenizer makes of a text, up to one that is special and stands for no text."""
        tokens = self.handle.tokenize_bytes(text)
        return tuple(itertools.takewhile(lambda token: not self.is_special(token), tokens))

    def encode_markup(self, text: str) -> list[int]:
        """Tokens of a text that the host itself writes; a tag such as `</think>` becomes its token if it has one.

        Never for text of users: a special token's name in it would become that token.
        """
        return list(self.handle.tokenize_str(text, parse_special=True))
