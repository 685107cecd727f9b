"""Claims are binned, compared with the truth, and written where the page has room for them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from exaone_ros.errors import ExaoneError
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.tasks import Count, Counted, Decide, Decided, Detection, Ground, Grounding
from exaone_ros.training.calibration import BEGIN, END, Claims, markdown, note, report_of, write_into
from exaone_ros.training.questions import Question

PAGE = Path(__file__).parents[2] / "docs" / "confidence.md"


def frame() -> LabelledFrame:
    return LabelledFrame(np.zeros((100, 200, 3), np.uint8), (), None, None, np.full((100, 200), -1, np.int16))


def test_a_calibrated_claimer_has_no_error_and_a_boaster_has_one() -> None:
    honest, boaster = Claims(), Claims()
    for i in range(100):
        honest.note(0.75, i < 75)
        boaster.note(0.97, i < 50)
    assert honest.summary()["calibration_error"] == pytest.approx(0)
    found = boaster.summary()
    assert found["calibration_error"] == pytest.approx(0.47) and found["brier"] == pytest.approx(0.4709)
    (entry,) = found["bins"]
    assert (entry["low"], entry["high"], entry["n"], entry["right"]) == (0.95, 0.99, 100, 0.5)
    assert 0.09 < entry["interval"] < 0.11


def test_scores_at_the_edges_have_a_bin_and_nan_has_none() -> None:
    claims = Claims()
    for score in (0.0, 1.0, 0.5, math.nan):
        claims.note(score, True)
    bins = claims.summary()["bins"]
    assert [(b["low"], b["n"]) for b in bins] == [(0.0, 1), (0.5, 1), (0.99, 1)]
    assert math.isnan(Claims().summary()["brier"])


def test_every_kind_of_answer_is_held_against_its_truth() -> None:
    claims = {kind: Claims() for kind in ("boxes", "options", "counts")}
    boxes = Question("list", Ground(), Ground.answer([((0, 0, 500, 500), "mug")]))
    found = (
        Detection("mug", (0.0, 0.0, 100.0, 50.0), 0.9),
        Detection("mug", (100.0, 50.0, 200.0, 100.0), 0.6),
        Detection("cube", (0.0, 0.0, 100.0, 50.0), math.nan),
    )
    note(claims, frame(), boxes, Grounding(found, 0))
    way = Question("way", Decide(instruction="?", options=("yes", "no")), Decide.answer("no", "so"))
    note(claims, frame(), way, Decided("no", ("yes", "no"), (0.2, 0.8), "", ""))
    note(claims, frame(), way, Decided("yes", ("yes", "no"), (), "", ""))
    note(claims, frame(), Question("count", Count(), Count.answer(3)), Counted("", 4, 0.7))
    note(claims, frame(), way, None)
    assert (claims["boxes"].scores, claims["boxes"].right) == ([0.9, 0.6], [True, False])
    assert (claims["options"].scores, claims["options"].right) == ([0.8], [True])
    assert (claims["counts"].scores, claims["counts"].right) == ([0.7], [False])


def test_the_tables_go_into_the_page_and_replace_those_before(tmp_path: Path) -> None:
    claims = {kind: Claims([0.9, 0.3], [True, False]) for kind in ("boxes", "options", "counts")}
    report = report_of("tiny", "onnxruntime", "validation", 2, claims)
    page = tmp_path / "confidence.md"
    page.write_text(PAGE.read_text())
    for _ in range(2):
        write_into(page, report)
        text = page.read_text()
        assert text.count(BEGIN) == text.count(END) == 1
        assert text.count("score of a box") == 1 and markdown(report).strip() in text
        assert text.endswith(PAGE.read_text().partition(END)[2])
    page.write_text("no room")
    with pytest.raises(ExaoneError, match="lacks the markers"):
        write_into(page, report)
