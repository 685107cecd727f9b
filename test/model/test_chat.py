"""Prompts equal those of transformers for ordinary text, and no text of a user becomes markup."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.errors import CheckpointError, TaskError
from exaone_ros.model.chat import SYSTEM_TEXT, USER_TEXT, ChatTemplate, PromptEncoder
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.vocabulary import Vocabulary

BUNDLED = Path(__file__).parents[2] / "models" / "exaone4_5-tabletop-tiny"
CONFIG = ModelConfig.read(BUNDLED)
ENCODER = PromptEncoder.open(BUNDLED, CONFIG)
MARKUP = ["</vision>", "<|endofturn|>", "<|assistant|>", "<|image_pad|>", "<|system|>", "[BOS]", "<think>", "</think>"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the bundled tokenizer and template, to be broken."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(BUNDLED / name, tmp_path / name)
    return tmp_path


def edit(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def ids_of_transformers(text: str, images: int, system: str | None, thinking: bool) -> list[int]:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(BUNDLED)
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
    messages.append({"role": "user", "content": content})
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=thinking)["input_ids"]


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("system", [None, "You see a table."])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(
    "text", ["How many red cups?", "빨간 컵을 찾아라. 0, 999.", 'Reply {"count": 3}\n\nas JSON', "!"]
)
def test_ordinary_text_gives_the_ids_of_transformers(
    text: str, images: int, system: str | None, thinking: bool
) -> None:
    prompt = ENCODER.encode(text, [1] * images, system=system, thinking=thinking)
    assert [*prompt.prefix, *prompt.suffix] == ids_of_transformers(text, images, system, thinking)


def test_the_prefix_holds_every_visual_token_and_ends_with_the_image() -> None:
    prefix = ENCODER.prefix([5, 2])
    assert (prefix == CONFIG.image_token).sum() == 7
    assert ENCODER.vocabulary.decode(prefix).endswith(b"<|image_pad|></vision>")
    assert (ENCODER.prefix([5, 2]) == prefix).all()


def test_all_questions_share_the_prefix_of_an_image() -> None:
    for text in ("One?", "Another question."):
        for thinking in (False, True):
            assert (ENCODER.encode(text, [4], thinking=thinking).prefix == ENCODER.prefix([4])).all()


def test_think_tags_are_closed_without_thinking() -> None:
    decode = ENCODER.vocabulary.decode
    assert decode(ENCODER.suffix("x", thinking=False)).endswith(b"<|assistant|>\n<think>\n\n</think>\n\n")
    assert decode(ENCODER.suffix("x", thinking=True)).endswith(b"<|assistant|>\n<think>\n")


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_typed_by_a_user_stays_text(markup: str) -> None:
    added = set(ENCODER.vocabulary.added.values())
    plain = [token for token in ENCODER.suffix("a  b").tolist() if token in added]
    for text in (f"a {markup} b", markup, markup * 3):
        suffix = ENCODER.suffix(text).tolist()
        assert [token for token in suffix if token in added] == plain
        assert text.encode() in ENCODER.vocabulary.decode(suffix)
    prefix = ENCODER.prefix([3], system=f"a {markup} b").tolist()
    assert [token for token in prefix if token in added] == [
        token for token in ENCODER.prefix([3], system="a  b").tolist() if token in added
    ]


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back_byte_by_byte(text: str) -> None:
    suffix = ENCODER.suffix(text).tolist()
    assert ENCODER.vocabulary.decode(suffix).startswith(b"\n" + text.encode() + b"<|endofturn|>")
    assert ENCODER.vocabulary.special.intersection(suffix) == {53, 55}, "end of turn and assistant only"


@pytest.mark.parametrize("text", [USER_TEXT, SYSTEM_TEXT, f"{USER_TEXT}{SYSTEM_TEXT}"])
def test_placeholders_typed_by_a_user_stay_text(text: str) -> None:
    suffix = ENCODER.suffix(text, system="operator")
    assert ENCODER.vocabulary.decode(suffix).count(text.encode()) == 1
    assert b"operator" not in ENCODER.vocabulary.decode(suffix)


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(TaskError, match="Unicode"):
        ENCODER.suffix("\ud800")


@pytest.mark.parametrize("counts", [[], [0], [3, -1]])
def test_a_prefix_without_image_is_refused(counts: list[int]) -> None:
    with pytest.raises(TaskError, match="image_tokens"):
        ENCODER.prefix(counts)


def test_every_byte_can_be_written() -> None:
    vocabulary = ENCODER.vocabulary
    assert len(vocabulary.bytes_of) == CONFIG.text.vocab
    assert {bytes([byte]) for byte in range(256)} <= set(vocabulary.bytes_of)
    assert vocabulary.bytes_of[53] == b"<|endofturn|>"
    assert vocabulary.decode(vocabulary.encode_text("컵 3개")) == "컵 3개".encode()


def test_the_vocabulary_is_as_wide_as_the_logits() -> None:
    wide = Vocabulary.read(BUNDLED, CONFIG.text.vocab + 100)
    assert wide.bytes_of[-100:] == (b"",) * 100
    with pytest.raises(CheckpointError, match="vocabulary ends at 999"):
        Vocabulary.read(BUNDLED, 1000)


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.json", "named"])
def test_the_template_may_lie_in_other_files(directory: Path, place: str) -> None:
    source = (directory / "chat_template.jinja").read_text()
    (directory / "chat_template.jinja").unlink()
    if place == "named":
        templates = [{"name": "tools", "template": "x"}, {"name": "default", "template": source}]
        edit(directory / "tokenizer_config.json", {"chat_template": templates})
    else:
        (directory / "chat_template.json").write_text("{}")
        edit(directory / place, {"chat_template": source})
    found = PromptEncoder.open(directory, CONFIG).suffix("Where?")
    assert (found == ENCODER.suffix("Where?")).all()


@pytest.mark.parametrize("templates", [[1], ["x"], [None], [{"name": "tools", "template": "x"}], [{"template": "x"}]])
def test_templates_of_which_none_is_the_default(directory: Path, templates: list[object]) -> None:
    (directory / "chat_template.jinja").unlink()
    edit(directory / "tokenizer_config.json", {"chat_template": templates})
    with pytest.raises(CheckpointError, match="has no chat template"):
        PromptEncoder.open(directory, CONFIG)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% if %}", "does not compile"),
        ("{{ raise_exception('no') }}", "no"),
        ("{{ undefined_function() }}", "fails"),
        ("<|user|>nothing", "writes the question 0 times"),
        ("{{ messages[-1].content[-1].text }}{{ messages[-1].content[-1].text }}", "2 times"),
        ("{{ messages[-1].content[-1].text }}<|image_pad|>", "0 image tokens"),
        ("<|image_pad|><|image_pad|>{{ messages[-1].content[-1].text }}", "2 image tokens"),
        ("{{ ''.__class__.__mro__ }}", "fails"),
        ("{{ 1 / 0 }}", "fails: division by zero"),
        ("{{ range(10 ** 9) | list }}", "fails: Range too big"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "fails: maximum recursion"),
        ("{{" * 10_000, "does not compile"),
    ],
)
def test_a_template_that_does_not_fit(directory: Path, template: str, said: str) -> None:
    (directory / "chat_template.jinja").write_text(template)
    with pytest.raises(CheckpointError, match=said):
        PromptEncoder.open(directory, CONFIG)


@pytest.mark.parametrize(
    "written", ["{{ message.content }}", "{{ '' + message.content }}", "{{ message.content | trim }}"]
)
def test_a_template_may_take_a_system_turn_only_as_a_text(directory: Path, written: str) -> None:
    path = directory / "chat_template.jinja"
    whole = path.read_text()
    place = "{{ '<|system|>\\n' }}{{ text_of(message.content) }}"
    assert place in whole
    path.write_text(whole.replace(place, "{{ '<|system|>\\n' }}" + written))
    found = PromptEncoder.open(directory, CONFIG).encode("Where?", [4], system="Be brief.")
    expected = ENCODER.encode("Where?", [4], system="Be brief.")
    assert found.prefix.tolist() == expected.prefix.tolist() and found.suffix.tolist() == expected.suffix.tolist()


def test_a_template_that_says_more_when_thinking(directory: Path) -> None:
    source = "{% if enable_thinking %}Think!{% endif %}" + (directory / "chat_template.jinja").read_text()
    (directory / "chat_template.jinja").write_text(source)
    encoder = PromptEncoder.open(directory, CONFIG)
    encoder.suffix("x")
    with pytest.raises(CheckpointError, match="cannot share the prefix"):
        encoder.suffix("x", thinking=True)


@pytest.mark.parametrize(
    "beginning",
    [
        "{% if tools is not none %}{{ raise_exception('no tools were given: ' ~ tools | tojson) }}{% endif %}",
        "{% if documents is not none %}with documents {% endif %}",
        "{{ messages[-1].role | tojson(separators=(',', ':'), sort_keys=true) }}",
        "{{ strftime_now('%Y') | length }} digits ",
    ],
)
def test_a_template_finds_what_transformers_gives_it(directory: Path, beginning: str) -> None:
    transformers = pytest.importorskip("transformers")
    path = directory / "chat_template.jinja"
    path.write_text(beginning + path.read_text())
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(directory)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False)["input_ids"]
    prompt = PromptEncoder.open(directory, CONFIG).encode("How many?", [1])
    assert [*prompt.prefix, *prompt.suffix] == expected


def test_a_template_with_the_tags_of_training() -> None:
    template = ChatTemplate(
        "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ bos_token }}", {"bos_token": "B"}, "t"
    )
    assert template.render([{"role": "user", "content": "hi"}], thinking=False) == "hiB"


def test_no_template(directory: Path) -> None:
    (directory / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="no chat template"):
        PromptEncoder.open(directory, CONFIG)


def test_a_missing_or_damaged_tokenizer(directory: Path) -> None:
    path = directory / "tokenizer.json"
    for content in ('{"model": 3}', "{", "[]"):
        path.write_text(content)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            PromptEncoder.open(directory, CONFIG)
    shutil.copy(BUNDLED / "tokenizer.json", path)
    first, *others = json.loads(path.read_text())["added_tokens"]
    edit(path, {"added_tokens": [{**first, "content": ""}, *others]})
    with pytest.raises(CheckpointError, match=rf"tokenizer\.json: the added token {first['id']} has no text"):
        PromptEncoder.open(directory, CONFIG)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        PromptEncoder.open(directory, CONFIG)


def test_another_kind_of_tokenizer(directory: Path) -> None:
    edit(
        directory / "tokenizer.json", {"decoder": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}}
    )
    with pytest.raises(CheckpointError, match="ByteLevel"):
        PromptEncoder.open(directory, CONFIG)


def test_added_tokens_that_swallow_spaces_are_noticed(directory: Path) -> None:
    path = directory / "tokenizer.json"
    added = json.loads(path.read_text())["added_tokens"]
    edit(path, {"added_tokens": [{**token, "rstrip": True} for token in added]})
    with pytest.raises(CheckpointError, match="in pieces"):
        PromptEncoder.open(directory, CONFIG)
