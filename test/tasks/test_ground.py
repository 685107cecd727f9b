"""Boxes come out in source pixels, with labels that were asked for and scores that are about the objects."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.errors import TaskError
from exaone_ros.tasks import Decoded, Ground, TokenEvidence

seen = st.characters(exclude_categories=("Cc", "Cs", "Cf", "Mn"), exclude_characters="\u115f\u1160\u2800\u3164\uffa0")
texts = st.text(seen, min_size=1, max_size=64).map(str.strip).filter(bool)
boxes = st.tuples(*[st.integers(0, 1000)] * 4)


def decoded(*tokens: str | tuple[str, dict[str, float]]) -> Decoded:
    """Tokens as text where forced, with their alternatives where there was a choice."""
    evidence = []
    for entry in tokens:
        text, alternatives = entry if isinstance(entry, tuple) else (entry, {})
        listed = tuple((name.encode(), probability) for name, probability in alternatives.items())
        evidence.append(TokenEvidence(text.encode(), alternatives.get(text, 1.0), listed))
    return Decoded("".join(t.text.decode() for t in evidence), tuple(evidence))


def byte_by_byte(text: str, probability: float) -> Decoded:
    """Each byte a token of its own with this probability."""
    pieces = [bytes([byte]) for byte in text.encode()]
    return Decoded(text, tuple(TokenEvidence(piece, probability, ((piece, probability),)) for piece in pieces))


@given(st.lists(st.tuples(boxes, texts), max_size=8), st.integers(1, 8000), st.integers(1, 8000))
def test_boxes_scale_with_the_source_image(objects: list[Any], width: int, height: int) -> None:
    result = Ground().read(Decoded(Ground.answer(objects)), width, height)
    ordered = sorted(objects, key=lambda entry: entry[0])
    proper = [(box, label) for box, label in ordered if box[2] > box[0] and box[3] > box[1]]
    assert result.rejected == len(objects) - len(proper)
    for detection, (box, label) in zip(result.detections, proper, strict=True):
        x1, y1, x2, y2 = detection.box
        assert (x1, x2) == pytest.approx((box[0] * width / 1000, box[2] * width / 1000))
        assert (y1, y2) == pytest.approx((box[1] * height / 1000, box[3] * height / 1000))
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert detection.label == " ".join(label.split())
        assert math.isnan(detection.score)


def test_training_answers_are_compact_and_sorted_by_x1() -> None:
    text = Ground.answer([((500, 1, 600, 2), "b"), ((10, 1, 20, 2), "빨간 공")])
    assert text == '[{"bbox_2d":[10,1,20,2],"label":"빨간 공"},{"bbox_2d":[500,1,600,2],"label":"b"}]'
    assert Ground.answer([]) == "[]"


def test_nothing_seen_is_an_answer() -> None:
    result = Ground(classes=("mug",)).read(Decoded("[]"), 640, 480)
    assert result.detections == () and result.rejected == 0


LIST = {'[{"bbox_2d":[': 0.9, "[]": 0.1}
LABEL = {"red": 0.6, "blue": 0.4}
END = {'"},{"bbox_2d":[': 0.7, '"}]': 0.1, " cube": 0.2}
COORDINATE = {"5": 0.01, "6": 0.99}


def test_a_score_is_the_object_and_its_label_not_its_coordinates() -> None:
    """One token ends the first label and begins the second object: each gets its own share of it."""
    answer = decoded(
        ('[{"bbox_2d":[', LIST), ("5", COORDINATE), ",", "2", ",", "7", ",", "4", '],"label":"',
        ("red", LABEL), ('"},{"bbox_2d":[', END),
        ("5", COORDINATE), ",", "6", ",", "7", ",", "8", '],"label":"',
        ("blue", LABEL), ('"}]', {'"},{"bbox_2d":[': 0.5, '"}]': 0.5}),
    )  # fmt: skip
    first, second = Ground().read(answer, 1000, 1000).detections
    assert first.score == pytest.approx(0.9 * 0.6 * 0.8)
    assert second.score == pytest.approx(0.7 / 0.8 * 0.4 * 1.0)


def test_scores_do_not_depend_on_how_the_text_is_cut() -> None:
    by_bytes = decoded(
        "[", ("{", {"{": 0.9, "]": 0.1}), '"bbox_2d":[1,2,3,4],"label":"',
        ("r", {"r": 0.6, "b": 0.4}), "ed", ('"', {'"': 0.8, " ": 0.2}), "}", ("]", {"]": 0.125, ",": 0.875}),
    )  # fmt: skip
    straddling = decoded(
        ('[{"', {'[{"': 0.9, "[]": 0.1}), 'bbox_2d":[1,2,3,',
        ('4],"label":"r', {'4],"label":"r': 0.6, '4],"label":"b': 0.4}),
        "ed", ('"}]', {'"}]': 0.1, '"},': 0.7, " c": 0.2}),
    )  # fmt: skip
    scores = [Ground().read(answer, 10, 10).detections[0].score for answer in (by_bytes, straddling)]
    assert scores == pytest.approx([0.9 * 0.6 * 0.8] * 2)


def test_digits_commas_and_brackets_in_a_label_belong_to_the_label() -> None:
    answer = decoded(
        '[{"bbox_2d":[1,2,3,4],"label":"',
        ("7", {"7": 0.5, "8": 0.5}), (",", {",": 0.5, '"': 0.5}), ("]", {"]": 0.5, "x": 0.5}), '"}]',
    )  # fmt: skip
    assert Ground().read(answer, 10, 10).detections[0].score == pytest.approx(0.125)


@pytest.mark.parametrize("label", ['","bbox_2d":[', '"label":"x', "}]", "빨간 공", 'a\\"},{"', "\\"])
def test_a_label_that_looks_like_json_is_read_as_a_label_and_scored(label: str) -> None:
    answer = byte_by_byte(Ground.answer([((1, 2, 3, 4), label), ((5, 6, 7, 8), "mug")]), 0.5)
    result = Ground(classes=(label, "mug")).read(answer, 1000, 1000)
    assert [detection.label for detection in result.detections] == [label, "mug"]
    lengths = [len(json.dumps(text, ensure_ascii=False).encode()) for text in (label, "mug")]
    # every byte has 1/2: one says that the object is listed, the others are its label and closing quote
    assert [d.score for d in result.detections] == pytest.approx([0.5**length for length in lengths])


PRETTY = """[
  {
    "label": "caf\\u00e9 \\/ bar",
    "bbox_2d": [ 1, 2.0, 30, 40 ]
  } ,
  {"bbox_2d":[5,6,7,8],"label":"mug"}
]
"""


def test_a_list_that_a_server_writes_in_another_way_means_the_same() -> None:
    names = ("caf\u00e9 / bar", "mug")
    result = Ground(classes=names).read(Decoded(PRETTY), 1000, 1000)
    assert [(d.label, d.box) for d in result.detections] == [(names[0], (1, 2, 30, 40)), (names[1], (5, 6, 7, 8))]
    assert Ground().read(Decoded(" [ ] "), 640, 480).detections == ()


def test_scores_are_read_where_the_values_stand() -> None:
    """Of every second byte one matters: the label's, its closing quote, and that the list goes on."""
    first, second = Ground().read(byte_by_byte(PRETTY, 0.5), 1000, 1000).detections
    up_to_the_brace, up_to_the_comma = len("\n  {"), len(" ,")
    assert first.score == pytest.approx(0.5 ** (up_to_the_brace + len('caf\\u00e9 \\/ bar"')))
    assert second.score == pytest.approx(0.5 ** (up_to_the_comma + len('mug"')))


def test_offsets_behind_korean_text_are_those_of_its_bytes() -> None:
    text = '[ {"label" : "빨간 공", "bbox_2d": [1,2,3,4]} ]'
    (detection,) = Ground().read(byte_by_byte(text, 0.5), 10, 10).detections
    assert detection.score == pytest.approx(0.5 ** (len(" {") + len('빨간 공"'.encode())))


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "{}", "[1]", "[{}]", "[[]]", "[]]", "[{", "null", "[NaN]", '["a"]',
        '[{"bbox_2d":[1,2,3],"label":"a"}]',
        '[{"bbox_2d":[1,2,3,"4"],"label":"a"}]',
        '[{"bbox_2d":[1,2,3,true],"label":"a"}]',
        '[{"bbox_2d":[1,2,3,NaN],"label":"a"}]',
        '[{"bbox_2d":[-1,2,3,4],"label":"a"}]',
        '[{"bbox_2d":[1,2,3,1001],"label":"a"}]',
        '[{"bbox_2d":[1,2,3,4],"label":5}]',
        '[{"bbox_2d":[1,2,3,4]}]',
        '[{"bbox_2d":[1,2,3,4],"label":"a"}{"bbox_2d":[1,2,3,4],"label":"a"}]',
        '[{"bbox_2d":[1,2,3,4],"label":"a"}]x',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_box_list_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(TaskError, match=r"'objects'.*is not a box list"):
        Ground(name="objects").read(Decoded(text), 640, 480)


def test_a_label_nobody_asked_for_is_refused() -> None:
    with pytest.raises(TaskError, match="'cat' is none of the classes"):
        Ground(classes=("mug",)).read(Decoded(Ground.answer([((1, 2, 3, 4), "cat")])), 640, 480)


def test_labels_come_back_as_they_were_asked() -> None:
    """A server without a grammar writes them with other capital letters, spaces or Unicode forms."""
    said = ["red  CUBE", "cafe\u0301", "MUG", "mug"]
    text = Ground.answer([((i, 2, 30, 40), label) for i, label in enumerate(said)])
    result = Ground(classes=("Red  Cube", "caf\u00e9", "MUG", "mug")).read(Decoded(text), 640, 480)
    assert [d.label for d in result.detections] == ["Red  Cube", "caf\u00e9", "MUG", "mug"]
    with pytest.raises(TaskError, match="'Mug' is none of the classes"):  # it could be either
        Ground(classes=("MUG", "mug")).read(Decoded(Ground.answer([((1, 2, 3, 4), "Mug")])), 640, 480)


def test_free_labels_are_cleaned_for_topics() -> None:
    result = Ground().read(Decoded('[{"bbox_2d":[1,2,3,4],"label":"red\\n\\u0007 cube "}]'), 640, 480)
    assert result.detections[0].label == "red cube"


def test_the_schema_holds_the_classes_or_any_short_label() -> None:
    label = Ground(classes=("빨간 공", 'quote"d')).schema()["items"]["properties"]["label"]
    assert label == {"enum": ["빨간 공", 'quote"d']}
    assert Ground().schema()["items"]["properties"]["label"]["maxLength"] == 64


@given(st.lists(texts, min_size=1, max_size=8))
def test_any_unicode_class_stands_in_prompt_and_schema_as_it_is(names: list[str]) -> None:
    normalised = tuple(dict.fromkeys(Ground(classes=(name,)).classes[0] for name in names))
    task = Ground(classes=normalised)
    assert task.schema()["items"]["properties"]["label"]["enum"] == list(normalised)
    assert ", ".join(normalised) in task.prompt()


def test_braces_in_a_class_are_no_placeholder() -> None:
    assert "{labels}" in Ground(classes=("{labels}",)).prompt()
    assert Ground(classes=("{0.__class__}",)).prompt().count("__class__") == 1


def test_every_wording_names_every_class() -> None:
    for language in ("en", "ko"):
        prompts = {Ground(classes=("mug", "ball"), language=language, wording=i).prompt() for i in range(9)}
        assert len(prompts) > 2 and all("mug, ball" in prompt for prompt in prompts)
        assert all("{" not in Ground(language=language, wording=i).prompt() for i in range(9))
