"""Values are found in a JSON text wherever its writer has put them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.tasks.written import spellings, value_spans

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@given(values, st.sampled_from([None, 0, 2]), st.booleans(), st.sampled_from(["", " ", "\n\t"]))
def test_every_value_stands_where_it_is_said_to_be(value: Any, indent: int | None, ascii: bool, around: str) -> None:
    text = around + json.dumps(value, indent=indent, ensure_ascii=ascii) + around
    spans = value_spans(text)
    raw = text.encode()
    assert () in spans
    for path, (start, end) in spans.items():
        assert json.loads(raw[start:end]) == at(value, path)
        assert raw[start:end].strip() == raw[start:end]


def test_of_a_key_that_stands_twice_the_last_value_counts_as_in_json() -> None:
    text = '{"a": 1, "a" : 22}'
    start, end = value_spans(text)[("a",)]
    assert text[start:end] == str(json.loads(text)["a"])


@given(texts)
def test_every_spelling_means_the_text(text: str) -> None:
    assert all(json.loads(way) == text for way in spellings(text))
    assert json.dumps(text, ensure_ascii=False).encode() in spellings(text)
