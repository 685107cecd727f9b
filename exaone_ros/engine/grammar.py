"""Answers decoded under a JSON schema: which tokens may follow, and which have to.

The grammar comes from `llguidance`: about 20 us per token for the bundled vocabulary, 0.4 ms for one of 153,600 tokens.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import EngineError, TaskError, require

COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
"""No whitespace between JSON's parts: the shortest answer, and what the bundled checkpoint was trained to write."""

MASKS_KEPT = 64


class Grammars:
    """Compiles schemas and keeps the most recently used.

    Standing tasks ask the same schemas on every frame: compiling one takes 0.3 to 1 ms, copying a compiled one 10 us.

    Args:
        table: of the model's tokens.
        capacity: compiled schemas kept.
    """

    def __init__(self, table: TokenTable, capacity: int = 64) -> None:
        self._table = table
        self._capacity = capacity
        self._matcher_type: Any = require("llguidance", "cpu").LLMatcher
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        # The same few masks come back for every coordinate and every label.
        self._ids_of = lru_cache(maxsize=MASKS_KEPT)(self._unpack)

    def start(self, schema: Mapping[str, Any]) -> JsonAnswer:
        """A fresh answer under this schema; keys come in the order of its `properties`, texts as they are in it.

        Raises:
            TaskError: the schema is not JSON, uses what the grammar does not know, or nothing satisfies it.
        """
        try:
            text = json.dumps(schema, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TaskError(f"the answer's schema is not JSON that can be written: {error}") from error
        if text in self._compiled:
            self._compiled.move_to_end(text)
        else:
            self._compiled[text] = self._compile(text)
            if len(self._compiled) > self._capacity:
                self._compiled.popitem(last=False)
        return JsonAnswer(self._table, self._compiled[text].deep_copy(), self._ids_of)

    def _unpack(self, mask: bytes) -> NDArray[np.int64]:
        """The ids whose bits stand in a mask, ascending."""
        bits = np.frombuffer(mask, np.uint8)
        return np.flatnonzero(np.unpackbits(bits, count=self._table.size, bitorder="little"))

    def _compile(self, schema: str) -> Any:
        try:
            grammar = self._matcher_type.grammar_from_json_schema(schema, overrides=COMPACT)
        except ValueError as error:
            raise TaskError(f"the answer's schema {schema[:120]!r} is refused by the grammar: {error}") from error
        matcher = self._matcher_type(self._table.handle, grammar, log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().strip().splitlines()[0]
            raise TaskError(f"the answer's schema {schema[:120]!r} is refused by the grammar: {reason}")
        first = JsonAnswer(self._table, matcher.deep_copy(), self._ids_of)
        try:  # one that refers to itself is only found out when the answer begins
            first.forced()
            if not first.complete:
                first.allowed()
        except EngineError as error:
            raise TaskError(f"the answer's schema {schema[:120]!r} has no answer: {error}") from error
        return matcher


class JsonAnswer:
    """One answer under a schema: a `Constraint`.

    Args:
        table: of the model's tokens.
        matcher: of the grammar, in its first state.
        ids_of: unpacks a mask of allowed tokens.

    Raises (from every method):
        EngineError: the grammar cannot go on; that is a defect or a limit of the grammar library, not of the model.
    """

    def __init__(self, table: TokenTable, matcher: Any, ids_of: Callable[[bytes], NDArray[np.int64]]) -> None:
        self._table = table
        self._matcher = matcher
        self._ids_of = ids_of

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        tokens: list[int] = []
        while following := self._matcher.compute_ff_tokens():
            taken = self._matcher.try_consume_tokens(following)
            tokens += following[:taken]
            if taken == len(following):
                break
            # The forced text is spelled like a special token and was encoded as that token, which stands for no text.
            # Its first byte alone breaks the spelling; what follows is then encoded as text.
            left = self._matcher.compute_ff_bytes()
            if not left:
                self._fail("goes on without an end")
            byte = left[0]
            if byte not in self._table.byte_tokens:
                self._fail(f"needs a token for the byte {byte:#04x}, which the tokenizer lacks")
            self.take(self._table.byte_tokens[byte])
            tokens.append(self._table.byte_tokens[byte])
        return tokens

    def spelled(self) -> tuple[int, ...]:
        text = self._matcher.compute_ff_bytes()
        return self._table.spelled(text) if text else ()

    def allowed(self) -> NDArray[np.int64]:
        ids = self._ids_of(self._matcher.compute_bitmask())
        if ids.size == 0 or self._matcher.is_error():
            self._fail("allows no token")
        return ids

    def take(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            self._fail(f"does not take token {token} ({self._table.token_bytes[token]!r})")

    def copy(self) -> JsonAnswer:
        return JsonAnswer(self._table, self._matcher.deep_copy(), self._ids_of)

    def _fail(self, what: str) -> None:
        reason = (self._matcher.get_error() or self._matcher.stop_reason()).strip().splitlines()[0]
        raise EngineError(f"the answer's grammar {what}: {reason}")
