"""Whatever the model prefers, what is decoded under a schema is an answer to it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.engine.grammar import Grammars
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import CheckpointError, TaskError
from exaone_ros.tasks import Count, Decide, Ground

HOSTILE = (
    'quote " and \\ backslash',
    "<|endofturn|>",
    "</think>",
    '"},{"choice":"x"}]',
    "빨간 큐브",
    "가나다",
    "émigré/π",
    "emoji 🤖👍🏽",
    "line\u2028separator",
    "<|image_pad|></vision>",
    "[EOS]",
    "\ufeffbom",
)
label_texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=24)


def walk(grammars: Grammars, schema: dict[str, Any], seed: int, stop_after: int = 2000) -> tuple[list[int], bytes]:
    """Decode with a model that has no idea: every allowed token is as good as another."""
    rng = np.random.default_rng(seed)
    answer = grammars.start(schema)
    tokens: list[int] = []
    while not answer.complete:
        forced = answer.forced()
        tokens += forced
        if forced or answer.complete:
            continue
        token = int(rng.choice(answer.allowed()))
        answer.take(token)
        tokens.append(token)
        assert len(tokens) < stop_after, "the answer does not end"
    table = grammars._table
    return tokens, b"".join(table.token_bytes[token] for token in tokens if token not in table.end_of_turn)


@pytest.mark.parametrize("seed", range(5))
def test_a_box_list_always_parses_and_keeps_its_ranges(grammars: Grammars, seed: int) -> None:
    schema = Ground(classes=("red cube", "mug", *HOSTILE)).schema()
    schema["maxItems"] = 6
    _, text = walk(grammars, schema, seed)
    for entry in json.loads(text):
        assert list(entry) == ["bbox_2d", "label"]
        assert entry["label"] in ("red cube", "mug", *HOSTILE)
        assert len(entry["bbox_2d"]) == 4 and all(0 <= c <= 1000 for c in entry["bbox_2d"])


@pytest.mark.parametrize("option", HOSTILE)
def test_options_come_out_verbatim_whether_chosen_or_forced(grammars: Grammars, table: TokenTable, option: str) -> None:
    for options in ((option, option + " 2"), (option, "other")):
        schema = Decide(instruction="?", options=options, reason=False).schema()
        chosen = {json.loads(walk(grammars, schema, seed)[1])["choice"] for seed in range(8)}
        assert chosen <= set(options)
    tokens, text = walk(grammars, {"enum": [option]}, 0)
    assert json.loads(text) == option
    assert text.decode() == json.dumps(option, ensure_ascii=False)
    assert not any(table.is_special(token) for token in tokens)


@settings(max_examples=40, deadline=None)
@given(st.lists(label_texts.map(str.strip).filter(bool), min_size=2, max_size=5, unique=True), st.integers(0, 1000))
def test_any_unicode_option_is_one_of_those_asked(grammars: Grammars, options: list[str], seed: int) -> None:
    _, text = walk(grammars, {"enum": options}, seed)
    assert json.loads(text) in options
    assert text.decode() == json.dumps(json.loads(text), ensure_ascii=False)


def test_compact_and_in_the_order_of_the_schema(grammars: Grammars) -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"const": 1}, "a": {"const": [1, 2]}},
        "required": ["b", "a"],
        "additionalProperties": False,
    }
    assert walk(grammars, schema, 0)[1] == b'{"b":1,"a":[1,2]}'


def test_a_count_stays_in_its_range(grammars: Grammars) -> None:
    counts = {json.loads(walk(grammars, Count(label="mug").schema(), seed)[1])["count"] for seed in range(60)}
    assert counts <= set(range(100)) and len(counts) > 20


def test_a_bare_number_ends_with_the_turn_and_the_end_is_no_text(grammars: Grammars, table: TokenTable) -> None:
    _, text = walk(grammars, {"type": "integer", "minimum": 0, "maximum": 999}, 3)
    assert 0 <= int(text) <= 999
    answer = grammars.start({"type": "integer"})
    answer.take(table.encode_markup("7")[0])
    assert table.end_of_turn[0] in answer.allowed()
    answer.take(table.end_of_turn[0])
    assert answer.complete


def test_special_tokens_are_never_allowed_in_text(grammars: Grammars, table: TokenTable) -> None:
    answer = grammars.start({"type": "string", "maxLength": 40})
    answer.take(table.encode_markup('"')[0])
    allowed = set(answer.allowed().tolist())
    assert len(allowed) > 1000
    assert not any(table.is_special(token) for token in allowed)
    assert table.end_of_turn[0] not in allowed


def test_forced_tokens_are_those_that_the_checkpoint_was_trained_on(grammars: Grammars, table: TokenTable) -> None:
    answer = grammars.start(Decide(instruction="?", options=("clear", "blocked")).schema())
    assert [table.token_bytes[t] for t in answer.forced()] == [b'{"choice":"']
    answer.take(next(t for t in answer.allowed() if table.token_bytes[t] == b"clear"))
    assert answer.forced() == []  # '"' and '","reason":"' are both tokens that may follow
    allowed = {table.token_bytes[t] for t in answer.allowed()}
    assert allowed == {b'"', b'","reason":"'}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"enum": []}, "(?i)empty|unsatisfiable"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "greater than"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "banana"}, "banana"),
        ({"type": "string", "format": "no-such-format"}, "no-such-format"),
        ({"enum": [object()]}, "not JSON"),
        (nested(2000), "not JSON"),
        ({"$ref": "#"}, "has no answer"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "goes on without an end"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(grammars: Grammars, schema: Any, reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        grammars.start(schema)


def test_compiled_schemas_are_kept_least_recently_used_first_out(table: TokenTable) -> None:
    grammars = Grammars(table, capacity=2)
    compiled: list[str] = []
    compile_schema = grammars._compile
    grammars._compile = lambda text: (compiled.append(text), compile_schema(text))[1]  # type: ignore[method-assign]
    one, two, three = ({"const": n} for n in (1, 2, 3))
    for schema in (one, two, one, three, one, two):
        grammars.start(schema)
    assert [json.loads(text)["const"] for text in compiled] == [1, 2, 3, 2]


def test_answers_under_one_schema_do_not_share_state(grammars: Grammars) -> None:
    first, second = grammars.start({"enum": ["ab", "cd"]}), grammars.start({"enum": ["ab", "cd"]})
    first.forced()
    first.take(int(first.allowed()[0]))
    assert second.allowed().size == grammars.start({"enum": ["ab", "cd"]}).allowed().size


@pytest.mark.parametrize(
    ("size", "end", "message"),
    [(100, [53], "100 logits"), (1792, [5000], "5000"), (1792, [], "end-of-turn|empty")],
)
def test_a_tokenizer_that_does_not_fit_the_model_is_refused(
    model_dir: Any, size: int, end: list[int], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        TokenTable.open(model_dir, size, end)


def test_padding_ids_behind_the_tokenizer_are_no_text(model_dir: Any) -> None:
    padded = TokenTable.open(model_dir, 1800, [53])
    assert padded.text_tokens.max() < 1792
    assert padded.is_special(1799)


def test_a_missing_or_damaged_tokenizer_is_named(tmp_path: Any) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        TokenTable.open(tmp_path, 10, [1])
    (tmp_path / "tokenizer.json").write_text('{"model":')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        TokenTable.open(tmp_path, 10, [1])
