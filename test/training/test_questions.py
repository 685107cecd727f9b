"""Every generated answer is an answer to its task, and the right one."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest

from exaone_ros.sim import vocabulary
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.tasks import Count, Decide, Decided, Decoded, Ground
from exaone_ros.training.other_words import FreeQuestioner
from exaone_ros.training.questions import KINDS, Questioner
from exaone_ros.training.splits import HELD_OUT_PAIRS
from exaone_ros.training.truth import Truth

from .drawn import drawn


@pytest.mark.parametrize(("asker", "number", "seed"), [(Questioner, 60, 0), (FreeQuestioner, 120, 3)])
def test_every_answer_fits_its_schema_and_reads_back(
    flat_frames: list[LabelledFrame], asker: type[Questioner], number: int, seed: int
) -> None:
    for frame, question in drawn(flat_frames, number, asker, seed):
        schema = question.task.schema()
        if schema is not None:
            jsonschema.validate(json.loads(question.answer), schema)
        height, width = frame.image.shape[:2]
        result = question.task.read(Decoded(question.answer), width, height)
        assert result is not None
        assert bool(question.reasoning) == question.task.thinking


def test_grounding_gives_the_boxes_of_what_is_asked(flat_frames: list[LabelledFrame]) -> None:
    seen = 0
    for frame, question in drawn(flat_frames, 60):
        if question.kind not in ("name", "class", "colour", "absent") or question.task.language != "en":
            continue
        assert isinstance(question.task, Ground)
        label = question.task.classes[0]
        words = label.removesuffix("s").split() if label.endswith("s") else label.split()
        wanted = [
            o.box for o in frame.objects
            if all(word in ("object", o.colour, o.shape) for word in words)
        ]  # fmt: skip
        height, width = frame.image.shape[:2]
        found = [d.box for d in question.task.read(Decoded(question.answer), width, height).detections]
        assert len(found) == len(wanted), (label, question.answer)
        for box, true in zip(found, wanted, strict=True):
            assert np.allclose(box, true, atol=0.5 + 0.001 * max(width, height)), (label, box, true)
        seen += 1
    assert seen > 100


def test_counts_are_right(flat_frames: list[LabelledFrame]) -> None:
    numbers = set()
    for frame, question in drawn(flat_frames, 60):
        if not isinstance(question.task, Count) or question.task.language != "en":
            continue
        words = question.task.label.removesuffix("s").split()
        count = sum(all(word in ("object", o.colour, o.shape) for word in words) for o in frame.objects)
        assert question.answer == Count.answer(count), question
        numbers.add(count)
    assert 0 in numbers
    assert len(numbers) > 2


def test_decisions_choose_one_of_their_options(flat_frames: list[LabelledFrame]) -> None:
    kinds: dict[str, set[int]] = {}
    for frame, question in drawn(flat_frames, 120):
        if not isinstance(question.task, Decide):
            continue
        result = question.task.read(Decoded(question.answer), 1, 1)
        assert isinstance(result, Decided)
        assert result.reason
        kinds.setdefault(question.kind, set()).add(result.options.index(result.choice))
        if question.kind == "way" and question.task.language == "en" and "clear" in result.options:
            free = frame.person is None and frame.obstacle is None
            assert (result.choice == "clear") == free
    assert {"way", "presence", "pick", "side", "pick_relation"} <= set(kinds)
    for places in kinds.values():
        assert len(places) > 1, "the right option must not always stand in the same place"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_kind_of_question_occurs(flat_frames: list[LabelledFrame], language: str) -> None:
    rng = np.random.default_rng(1)
    for kind in KINDS:
        found = [Questioner(Truth.of(frame), rng, language).ask(kind) for frame in flat_frames for _ in range(8)]
        assert any(question is not None and question.task.language == language for question in found), kind


def test_everything_means_the_four_shapes_only(flat_frames: list[LabelledFrame]) -> None:
    for frame, question in drawn(flat_frames, 60):
        if question.kind == "list":
            assert len(json.loads(question.answer)) == len(frame.objects)
            assert vocabulary.PERSON not in question.answer
            assert vocabulary.OBSTACLE not in question.answer


def test_held_out_pairs_are_never_named_where_they_are_not_seen(flat_frames: list[LabelledFrame]) -> None:
    names = {vocabulary.name(shape, colour, lang) for colour, shape in HELD_OUT_PAIRS for lang in ("en", "ko")}
    for _, question in drawn(flat_frames, 120):
        text = question.task.prompt() + question.answer
        assert not any(name in text for name in names), text
