"""Where in a JSON text its values are written.

Servers write the same answer in many ways: with spaces and line breaks, keys in another order, characters escaped.
What it means is for `json.loads`; this says which of its bytes hold which value, so that their probability can be read.
"""

from __future__ import annotations

import json
import re

Path = tuple[str | int, ...]
"""The keys and indices that lead to a value; () is the whole document."""

Span = tuple[int, int]
"""Offsets in the UTF-8 of a text, from the first byte up to behind the last."""

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def value_spans(text: str) -> dict[Path, Span]:
    """Where each value of a JSON document is written; of a key that stands twice its last value, which `json` takes.

    Args:
        text: what `json.loads` has accepted.
    """
    found: dict[Path, Span] = {}
    _walk(text, _skip(text, 0), (), found)
    if text.isascii():
        return found
    at, offsets = 0, []
    for character in text:
        offsets.append(at)
        at += len(character.encode())
    offsets.append(at)
    return {path: (offsets[start], offsets[end]) for path, (start, end) in found.items()}


def spellings(value: str) -> tuple[bytes, ...]:
    """A text, quotes included, in each way in which JSON writers spell texts, the most usual first; as many for every
    text: as it is or in ASCII with small or capital digits, slashes as they are or escaped."""
    ascii_only = json.dumps(value)
    capital = re.sub(r"\\u[0-9a-f]{4}", lambda code: "\\u" + code.group()[2:].upper(), ascii_only)
    ways = [json.dumps(value, ensure_ascii=False), ascii_only, capital]
    return tuple(way.encode() for way in [*ways, *(way.replace("/", "\\/") for way in ways)])


def _skip(text: str, at: int) -> int:
    """The next character that is no white space."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _walk(text: str, start: int, path: Path, found: dict[Path, Span]) -> int:
    """Note the value that begins at a character, and all within it; returns where it ends."""
    opening = text[start]
    if opening not in "{[":
        end = _DECODER.raw_decode(text, start)[1]
    else:
        end = _skip(text, start + 1)
        index = 0
        while text[end] not in "}]":
            if index:
                end = _skip(text, end + 1)  # the comma
            key: str | int = index
            if opening == "{":
                key, end = _DECODER.raw_decode(text, end)
                end = _skip(text, _skip(text, end) + 1)  # the colon
            end = _skip(text, _walk(text, end, (*path, key), found))
            index += 1
        end += 1
    found[path] = (start, end)
    return end
