"""Reasoning always concludes, and free text can hold no markup, whatever the tokenizer's tokens are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from exaone_ros.engine.constraint import FreeText, Thinking
from exaone_ros.engine.token_table import TokenTable


@pytest.fixture(scope="module")
def pieces(model_dir: Path) -> TokenTable:
    """A tokenizer like the released one: the think tags are plain text, and some tokens reach over their end."""
    raw = json.loads((model_dir / "tokenizer.json").read_text(encoding="utf-8"))
    raw["added_tokens"] = [t for t in raw["added_tokens"] if "think" not in t["content"]]
    renamed = {
        "<think>": "<|reserved_75|>",
        "</think>": "<|reserved_76|>",
        "<|unused_0|>": "</th",
        "<|unused_1|>": "ink>ĊĊ",
        "<|unused_2|>": "ink>Ċ",
        "<|unused_3|>": "ink>So",
        "<|unused_4|>": "x->y",
    }
    raw["model"]["vocab"] = {renamed.get(text, text): token for text, token in raw["model"]["vocab"].items()}
    return TokenTable(json.dumps(raw, ensure_ascii=False), 1792, [53])


def feed(thinking: Thinking, table: TokenTable, *texts: str) -> bytes:
    """Take the tokens with these texts, each of which has to be allowed; returns what was forced after the last."""
    for text in texts:
        assert not thinking.complete
        assert thinking.forced() == []
        token = table.token_bytes.index(text.encode())
        assert token in thinking.allowed(), text
        thinking.take(token)
    return b"".join(table.token_bytes[token] for token in thinking.forced())


def test_a_tag_of_one_token_ends_the_reasoning(table: TokenTable) -> None:
    thinking = Thinking(table, budget=50)
    assert feed(thinking, table, "red", "\n") == b""
    assert not thinking.complete
    assert feed(thinking, table, "</think>") == b"\n\n"
    assert thinking.complete and not thinking.concluded
    assert thinking.text == "red"


@pytest.mark.parametrize(("last", "forced"), [("ink>\n\n", b""), ("ink>\n", b"\n")])
def test_a_tag_in_pieces_ends_it_and_only_missing_newlines_are_forced(
    pieces: TokenTable, last: str, forced: bytes
) -> None:
    thinking = Thinking(pieces, budget=50)
    assert feed(thinking, pieces, "red", "</th", last) == forced
    assert thinking.complete and thinking.text == "red"


def test_a_tag_byte_by_byte_ends_it(pieces: TokenTable) -> None:
    thinking = Thinking(pieces, budget=50)
    assert feed(thinking, pieces, "red", *"</think>") == b"\n\n"
    assert thinking.complete and thinking.text == "red"


def test_a_token_that_runs_past_the_tag_into_words_is_not_allowed(pieces: TokenTable) -> None:
    overshooting = pieces.token_bytes.index(b"ink>So")
    harmless = pieces.token_bytes.index(b"x->y")
    thinking = Thinking(pieces, budget=50)
    assert {overshooting, harmless} <= set(thinking.allowed().tolist())
    feed(thinking, pieces, "red", "</th")
    assert overshooting not in thinking.allowed()
    assert harmless in thinking.allowed()
    assert pieces.token_bytes.index(b"ink>\n\n") in thinking.allowed()


@pytest.mark.parametrize("kind", ["table", "pieces"])
def test_at_the_budget_the_host_closes_the_reasoning(kind: str, request: pytest.FixtureRequest) -> None:
    table: TokenTable = request.getfixturevalue(kind)
    thinking = Thinking(table, budget=3)
    assert feed(thinking, table, "red", "red", "red") == b"\n</think>\n\n"
    assert thinking.complete and thinking.concluded
    assert thinking.text == "redredred"


def test_the_end_of_the_turn_and_special_tokens_cannot_stand_in_reasoning(table: TokenTable) -> None:
    allowed = Thinking(table, budget=5).allowed()
    assert not np.isin([*range(75), *range(77, 96)], allowed).any()
    assert 76 in allowed  # </think>


def test_free_text_ends_with_the_turn_and_holds_no_markup(table: TokenTable) -> None:
    text = FreeText(table)
    allowed = text.allowed()
    assert not np.isin([t for t in range(96) if t not in table.end_of_turn], allowed).any()
    text.take(table.token_bytes.index(b"red"))
    assert not text.complete
    text.take(table.end_of_turn[0])
    assert text.complete
