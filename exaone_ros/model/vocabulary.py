"""The tokenizer of a checkpoint as the engine needs it: text without markup to ids, ids to bytes.

Added tokens (`<|endofturn|>`, `<|image_pad|>`, `<think>`, ...) never come out of `encode_text`: text of users cannot
spell one. They are written by id alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from exaone_ros.errors import CheckpointError, TaskError, require
from exaone_ros.model.config_section import read_json


@dataclass(frozen=True)
class Vocabulary:
    """Token ids, their bytes, and the way from text to ids.

    Attributes:
        bytes_of: the bytes of each id, as long as the logits are wide; empty for ids that no token has.
        added: id of each added token by its text.
        special: ids of the added tokens that are markup and no part of any answer.
    """

    bytes_of: tuple[bytes, ...] = field(repr=False)
    added: Mapping[str, int]
    special: frozenset[int]
    _plain: Any = field(repr=False)

    @classmethod
    def read(cls, directory: str | Path, size: int) -> Vocabulary:
        """Read `tokenizer.json`.

        Args:
            directory: of the checkpoint.
            size: width of the logits.

        Raises:
            CheckpointError: the file is missing, damaged, no byte-level BPE, or has ids beyond `size`.
            MissingExtra: the package `tokenizers` is not installed.
        """
        path = Path(directory) / "tokenizer.json"
        raw = read_json(path)
        tokenizers = require("tokenizers", "cpu")
        try:
            whole = tokenizers.Tokenizer.from_str(json.dumps(raw))
            plain = tokenizers.Tokenizer.from_str(json.dumps({**raw, "added_tokens": [], "post_processor": None}))
            added_raw = [(str(t["content"]), int(t["id"]), bool(t["special"])) for t in raw.get("added_tokens", [])]
        except Exception as error:  # the library raises bare Exception for every fault in the file
            raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}; fetch the file again") from error
        empty = [token for content, token, _ in added_raw if not content]
        if empty:
            raise CheckpointError(f"{path}: the added token {empty[0]} has no text; fetch the file again")
        for tokenizer in (whole, plain):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        if "ByteLevel" not in json.dumps(raw.get("decoder")):
            raise CheckpointError(
                f"{path}: the decoder is no ByteLevel; only byte-level BPE (as EXAONE's) is supported"
            )
        ids = whole.get_vocab(with_added_tokens=True)
        if ids and max(ids.values()) >= size:
            raise CheckpointError(f"{path} has the id {max(ids.values())}; the model's vocabulary ends at {size - 1}")
        added = {content: token for content, token, _ in added_raw}
        special = frozenset(token for _, token, is_special in added_raw if is_special)
        return cls(_bytes_of(ids, added, size, path), MappingProxyType(added), special, plain)

    def encode_text(self, text: str) -> list[int]:
        """Ids of text in which nothing is markup.

        Raises:
            TaskError: the text is no valid Unicode, or the tokenizer reads an added token in it all the same.
        """
        try:
            ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError) as error:
            raise TaskError(f"text {text!r:.60} cannot be tokenized: {error}; expected valid Unicode") from error
        forbidden = self.special.intersection(ids)
        if forbidden:
            raise TaskError(f"text {text!r:.60} spells the special token {self.bytes_of[min(forbidden)]!r}; reword it")
        return ids

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids in a row, added tokens included."""
        return b"".join(self.bytes_of[token] for token in ids)


def _bytes_of(ids: Mapping[str, int], added: Mapping[str, int], size: int, path: Path) -> tuple[bytes, ...]:
    table = [b""] * size
    byte_of = _byte_of_character()
    for text, token in ids.items():
        if text in added:
            table[token] = text.encode()
            continue
        try:
            table[token] = bytes(byte_of[character] for character in text)
        except KeyError as error:
            raise CheckpointError(
                f"{path}: token {text!r} has {error}, which stands for no byte in byte-level BPE"
            ) from error
    return tuple(table)


def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-ins: each byte that prints is itself, the others follow from U+0100 on in order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
