"""JSON objects of a checkpoint, and their values, checked as they are read."""

from __future__ import annotations

import json
import reprlib
import sys
from pathlib import Path
from typing import Any, TypeGuard

from exaone_ros.errors import CheckpointError

MOST = sys.float_info.max


class Section:
    """One object of the configuration, whose values are checked as they are read."""

    def __init__(self, raw: dict[str, Any], where: str) -> None:
        self.raw = raw
        self.where = where

    def section(self, key: str) -> dict[str, Any]:
        value = self.raw.get(key)
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.where}: '{key}' is {value!r}; expected an object")
        return value

    def integer(self, key: str, default: int, least: int = 0, most: int | None = None) -> int:
        value = self.raw.get(key)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise CheckpointError(f"{self.where}: {key} is {shown(value)}; expected an integer of at least {least}")
        if most is not None and value > most:
            raise CheckpointError(f"{self.where}: {key} is {shown(value)}; expected an integer of at most {most}")
        return value

    def square(self, key: str, default: int) -> int:
        """An integer, or a list that names the same integer for each axis."""
        value = self.raw.get(key)
        if isinstance(value, list) and value and all(v == value[0] for v in value):
            return Section({key: value[0]}, self.where).integer(key, default, 1)
        return self.integer(key, default, 1)

    def number(self, key: str, default: float | None) -> float:
        value = self.raw.get(key)
        if value is None:
            value = default
        if not is_number(value) or value <= 0:
            raise CheckpointError(f"{self.where}: {key} is {shown(value)}; expected a positive number")
        return float(value)

    def must_be(self, key: str, expected: Any) -> None:
        value = self.raw.get(key, expected)
        if value != expected:
            raise CheckpointError(
                f"{self.where}: {key} is {value!r}; EXAONE 4.5 has {expected!r} and nothing else is built"
            )


def is_number(value: object) -> TypeGuard[float]:
    """A number that a float can hold, and no truth value; JSON knows NaN, infinities and integers of any length."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MOST <= value <= MOST


def shown(value: object) -> str:
    """A refused value for an error message, in short."""
    return reprlib.repr(value)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a checkpoint.

    Raises:
        CheckpointError: the file is missing, unreadable, no JSON, or not an object.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; expected a checkpoint directory with this file in it") from None
    except (OSError, ValueError, RecursionError) as error:  # a number of too many digits, a thousand brackets
        raise CheckpointError(f"{path} cannot be read as JSON: {error}; fetch the file again") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds a {type(raw).__name__}; expected a JSON object")
    return raw
