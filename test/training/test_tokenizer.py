"""The bundled tokenizer: text comes back byte for byte, and what is asked often is one token each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")

from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.sim import vocabulary
from exaone_ros.tasks import SYSTEM, Count, Decide, Ground, wordings
from exaone_ros.training import phrases, tokenizer

TOKENIZER = tokenizer.build_tokenizer()


def tokens_of(text: str) -> list[str]:
    return [
        TOKENIZER.decode([i], skip_special_tokens=False) for i in TOKENIZER.encode(text, add_special_tokens=False).ids
    ]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_byte_for_byte(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@given(
    st.lists(
        st.sampled_from([*tokenizer.SCAFFOLDING, "7", "1000", "1001", " red", "큐브", "<think>", "<|user|>", " ", "☃"])
    )
)
def test_any_row_of_pieces_comes_back_byte_for_byte(pieces: list[str]) -> None:
    text = "".join(pieces)
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_published_ids() -> None:
    for i, token in (tokenizer.SPECIAL_TOKENS | tokenizer.THINK_TOKENS).items():
        assert TOKENIZER.token_to_id(token) == i
    assert TOKENIZER.get_vocab_size() % tokenizer.VOCABULARY_MULTIPLE == 0
    assert sorted(TOKENIZER.get_vocab().values()) == list(range(TOKENIZER.get_vocab_size()))


def test_numbers_are_one_token_each_in_order() -> None:
    for number in range(tokenizer.LARGEST_NUMBER + 1):
        assert TOKENIZER.encode(str(number), add_special_tokens=False).ids == [tokenizer.first_number_id() + number]


def test_answers_are_scaffolding_numbers_and_words() -> None:
    assert tokens_of(Ground.answer([((1, 20, 333, 1000), "red cube"), ((9, 9, 10, 10), "머그")])) == [
        '[{"bbox_2d":[', "1", ",", "20", ",", "333", ",", "1000", '],"label":"', "red", " cube",
        '"},{"bbox_2d":[', "9", ",", "9", ",", "10", ",", "10", '],"label":"', "머그", '"}]',
    ]  # fmt: skip
    assert tokens_of(Ground.answer([])) == ["[]"]
    assert tokens_of(Count.answer(4)) == ['{"count":', "4", "}"]
    assert tokens_of(Decide.answer("red cube", "it is near")) == [
        '{"choice":"', "red", " cube", '","reason":"', "it", " is", *" near", '"}'
    ]  # fmt: skip


@pytest.mark.parametrize("language", ["en", "ko"])
def test_questions_never_fall_to_bytes(language: str) -> None:
    names = [
        vocabulary.name(shape, colour, language, plural)
        for shape in (None, *vocabulary.SHAPES)
        for colour in (None, *vocabulary.COLOURS)
        for plural in (False, True)
    ]
    texts = [SYSTEM, *names, *phrases.all_texts()]
    for table in (wordings.GROUND, wordings.GROUND_ALL, wordings.COUNT, wordings.DECIDE):
        texts.extend(table[language])
    words = {word for text in texts for word in re.findall(r" ?[^\W\d_]+", re.sub(r"\{\w+\}", "", text))}
    assert len(words) > 50
    assert [word for word in sorted(words) if len(TOKENIZER.encode(word, add_special_tokens=False).ids) != 1] == []


def test_written_directory_loads_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    size = tokenizer.write_processor(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == size
    assert loaded.eos_token_id == tokenizer.EOS_ID
    text = Ground.answer([((0, 0, 5, 5), "빨간 큐브")])
    assert loaded.decode(loaded(text, add_special_tokens=False)["input_ids"]) == text


def rendered(tmp_path: Path, messages: list[dict[str, Any]], **options: Any) -> str:
    transformers = pytest.importorskip("transformers")
    tokenizer.write_processor(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    return str(loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options))


def test_chat_template_puts_images_before_the_text(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image"}]},
    ]
    assert rendered(tmp_path, messages, enable_thinking=False) == (
        "<|system|>\nS<|endofturn|>\n<|user|>\n<vision><|image_pad|></vision>\nWhat?<|endofturn|>\n"
        "<|assistant|>\n<think>\n\n</think>\n\n"
    )


def test_chat_template_thinks_when_asked(tmp_path: Path) -> None:
    text = rendered(tmp_path, [{"role": "user", "content": "Hi"}], enable_thinking=True)
    assert text == "<|user|>\nHi<|endofturn|>\n<|assistant|>\n<think>\n"


def test_size_rule_pins_the_visual_tokens(tmp_path: Path) -> None:
    smart_resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize

    tokenizer.write_processor(tmp_path)
    size = json.loads((tmp_path / "preprocessor_config.json").read_text())["size"]
    limits = {"factor": 28, "min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    for height, width, expected in (
        (120, 160, (252, 336)), (240, 320, (252, 336)), (480, 640, (252, 336)), (960, 1280, (252, 336)),
        (360, 640, (196, 364)), (720, 1280, (196, 364)), (480, 848, (196, 364)), (400, 400, (280, 280)),
    ):  # fmt: skip
        assert smart_resize(height, width, **limits) == expected
