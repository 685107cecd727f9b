"""The objects of a request's JSON, and their values, checked as they are read; what is null counts as not there."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

from exaone_ros.errors import TaskError


class Fields:
    """One object of a request.

    Args:
        raw: what stands there.
        where: its place in the request, named in errors.
        known: the keys that it may have; another one is refused rather than passed over. None = any.

    Raises (from every method, too):
        TaskError: names the place, the value and what was expected.
    """

    def __init__(self, raw: Any, where: str, known: Sequence[str] | None = None) -> None:
        if not isinstance(raw, dict):
            raise TaskError(f"{where} is {reprlib.repr(raw)}; expected an object")
        unknown = sorted(
            key for key, value in raw.items() if known is not None and key not in known and value is not None
        )
        if known is not None and unknown:
            raise TaskError(f"{where} has {unknown}, which this server does not know; expected {', '.join(known)}")
        self._raw, self._where = raw, where

    def text(self, key: str) -> str:
        """A text, which must be there."""
        value = self._raw.get(key)
        if not isinstance(value, str):
            raise self._refusal(key, "a text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._raw.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._refusal(key, "true or false")
        return value

    def integer(self, key: str, default: int, least: int = 0, most: int | None = None) -> int:
        value = self._raw.get(key)
        if value is None:
            return default
        within = type(value) is int and value >= least and (most is None or value <= most)
        if not within:
            raise self._refusal(
                key, f"an integer from {least} on" if most is None else f"an integer, {least} to {most}"
            )
        return int(value)

    def number(self, key: str, default: float) -> float:
        """A number that is none too large for a float; its range is for who takes it."""
        value = self._raw.get(key)
        if value is None:
            return default
        try:
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value):
                return float(value)
        except OverflowError:
            pass  # refused below, like everything that is no number
        raise self._refusal(key, "a number")

    def items(self, key: str) -> list[Any]:
        """A list with something in it."""
        value = self._raw.get(key)
        if not isinstance(value, list) or not value:
            raise self._refusal(key, "a list with something in it")
        return value

    def get(self, key: str) -> Any:
        """The value as it is; None where there is none."""
        return self._raw.get(key)

    def inner(self, key: str, known: Sequence[str] | None = None) -> Fields:
        """The object under a key."""
        return Fields(self._raw.get(key), self._name(key), known)

    def _name(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where != REQUEST else key

    def _refusal(self, key: str, expected: str) -> TaskError:
        return TaskError(f"{self._name(key)} is {reprlib.repr(self._raw.get(key))}; expected {expected}")


REQUEST = "the request"
"""The place of the outermost object: its keys are named without it."""
