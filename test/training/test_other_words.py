"""Other names are asked for in training without changing what is right; evaluation never sees them."""

from __future__ import annotations

import numpy as np

from exaone_ros.sim import vocabulary
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.tasks import Decoded, Ground
from exaone_ros.training import other_words
from exaone_ros.training.other_words import COLOUR_NOUNS, OTHER_SHAPES, FreeQuestioner
from exaone_ros.training.questions import Questioner
from exaone_ros.training.tokenizer import vocabulary_words

from .drawn import drawn


def plain(label: str) -> str:
    """The vocabulary's name of a name that is written otherwise."""
    words = label.lower().replace("_", " ")
    for shape, others in OTHER_SHAPES.items():
        for other in others:
            words = words.replace(other, shape)
    for colour, noun in COLOUR_NOUNS.items():
        words = words.replace(noun, vocabulary.KOREAN[colour])
    return words


def test_another_spelling_asks_for_the_same_boxes(flat_frames: list[LabelledFrame]) -> None:
    seen = set()
    for frame, question in drawn(flat_frames, 400, FreeQuestioner, seed=3):
        if question.kind not in ("name", "class", "colour") or not isinstance(question.task, Ground):
            continue
        (label,) = question.task.classes
        if label == plain(label):
            continue
        kind = vocabulary.parse(plain(label)) if question.task.language == "en" else korean(plain(label))
        assert kind is not None, label
        shape, colour = kind
        wanted = [o.box for o in frame.objects if shape in (None, o.shape) and colour in (None, o.colour)]
        height, width = frame.image.shape[:2]
        found = [d.box for d in question.task.read(Decoded(question.answer), width, height).detections]
        assert len(found) == len(wanted), (label, question.answer)
        for box, true in zip(found, wanted, strict=True):
            assert np.allclose(box, true, atol=0.5 + 0.001 * max(width, height)), (label, box, true)
        seen.add((question.task.language, label != label.lower(), "_" in label))
    assert {("en", True, False), ("en", False, True), ("en", False, False), ("ko", False, False)} <= seen


def korean(label: str) -> tuple[str | None, str | None] | None:
    names = {
        vocabulary.name(s, c, "ko"): (s, c) for s in (None, *vocabulary.SHAPES) for c in (None, *vocabulary.COLOURS)
    }
    return names.get(label)


def test_what_is_never_there_is_answered_with_nothing(flat_frames: list[LabelledFrame]) -> None:
    strangers = {thing for things in other_words.OTHER_THINGS.values() for thing in things}
    asked = [
        question
        for _, question in drawn(flat_frames, 200, FreeQuestioner, seed=3)
        if isinstance(question.task, Ground)
        and any(label.lower().endswith(thing.lower()) for label in question.task.classes for thing in strangers)
    ]
    assert len(asked) > 10 and all(question.answer == "[]" for question in asked)


def test_lists_of_everything_and_evaluation_keep_to_the_vocabulary(flat_frames: list[LabelledFrame]) -> None:
    for frame, question in drawn(flat_frames, 60, FreeQuestioner, seed=3):
        if question.kind == "list":
            height, width = frame.image.shape[:2]
            for found in question.task.read(Decoded(question.answer), width, height).detections:
                assert plain(found.label) == found.label
    for _, question in drawn(flat_frames, 60, Questioner, seed=3):
        if isinstance(question.task, Ground):
            assert all(plain(label) == label for label in question.task.classes)


def test_no_other_word_is_a_token() -> None:
    words = set(vocabulary_words())
    strangers = {word for things in other_words.OTHER_THINGS.values() for thing in things for word in thing.split()}
    others = {word for shapes in OTHER_SHAPES.values() for word in shapes} | set(COLOUR_NOUNS.values())
    assert not (strangers | others) & words - {"robot"}
