"""The precision benchmark asks the same in every precision, and its table goes where the page has a place for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from exaone_ros.bench.precision import BEGIN, END, Recorder, _parse, markdown, measure, open_engine, write_between
from exaone_ros.errors import ExaoneError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import precision
from exaone_ros.share import share_path
from exaone_ros.tasks import Ground
from exaone_ros.training.evaluate import flat_frames

BUNDLED = "models/exaone4_5-tabletop-tiny"
ROOT = Path(__file__).parents[2]


def test_every_variant_is_asked_the_same() -> None:
    frames = list(flat_frames("validation", 1))
    results = measure(share_path(BUNDLED), frames, [frames[0].image], ["int4+scales"], kinds={"name": 1, "count": 1})
    assert list(results) == ["float32", "int4+scales"]
    assert results["float32"]["same_answers"] == 1.0
    assert {result["answers"] for result in results.values()} == {2}
    assert results["int4+scales"]["decoder_mb"] < results["float32"]["decoder_mb"]
    json.dumps(results)
    lines = markdown(results, 1).splitlines()
    assert len({line.count("|") for line in lines[:4]}) == 1 and lines[3].startswith("| int4+scales |")


def test_emulated_numbers_are_close_and_not_the_same() -> None:
    """The backend computes with what it was asked for: bfloat16 is felt in the logits, and is no other model."""
    checkpoint = Checkpoint.open(share_path(BUNDLED))
    (frame,) = flat_frames("validation", 1)
    scores = {}
    for name in ("float32", "bfloat16"):
        with open_engine(checkpoint, precision(name), None, 1) as engine:
            (found,) = Recorder(engine).answer(frame.image, [Ground(name="objects")]).answers
        scores[name] = np.array([detection.score for detection in found.result.detections])
    assert len(scores["float32"]) and scores["bfloat16"].size
    assert not np.array_equal(scores["float32"], scores["bfloat16"])
    assert abs(scores["float32"][0] - scores["bfloat16"][0]) < 0.2


def test_variants_that_make_no_sense_are_refused() -> None:
    assert _parse("int4-bfloat16+scales") == (precision("int4-bfloat16"), True)
    with pytest.raises(ExaoneError, match="precision is 'int5'; expected one of float32"):
        _parse("int5")
    with pytest.raises(ExaoneError, match="'float16' quantises nothing"):
        _parse("float16+scales")


def test_the_table_replaces_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("| new |", "| newer |"):
        write_between(page, text)
    assert page.read_text() == f"before\n{BEGIN}\n\n| newer |\n\n{END}\nafter\n"
    page.write_text("no place")
    with pytest.raises(ExaoneError, match="has no place for the table"):
        write_between(page, "x")


def test_the_page_of_the_project_has_a_place() -> None:
    text = (ROOT / "docs" / "tensorrt.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1 and text.index(BEGIN) < text.index(END)
