"""Figures against their bounds, and against the figures that come with a model."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from exaone_ros.share import share_path
from exaone_ros.training.targets import DIRECT, Verdict, as_json, compared, markdown, verdicts

Table = dict[str, dict[str, float]]


def column(**values: float) -> Table:
    return {name: {"value": value, "interval": 0.01, "n": 100} for name, value in values.items()}


def test_bounds_are_kept_missed_or_unsure() -> None:
    verdict = Verdict("x", 0.93, 0.02, 0.90, 0.94)
    assert (verdict.keeps(0.90), verdict.keeps(0.94), verdict.keeps(math.nan)) == (True, False, None)
    assert verdict.words(0.90) == "0.9: yes"
    assert verdict.words(0.94) == "0.94: no, unsure"
    # 150 of 150: the interval reaches from 0.975 to 1, and its half, 0.012, on either side of 1 would not reach 0.98
    certain = Verdict("x", 1.0, 0.0125, 0.98, 0.97, low=0.975, high=1.0)
    assert (certain.words(0.98), certain.words(0.97)) == ("0.98: yes, unsure", "0.97: yes")
    assert Verdict("x", 1.0, 0.0125, 0.98, 0.97).words(0.98) == "0.98: yes", "an older file: only the half is known"
    assert Verdict("x", 0.03, math.nan, 0.02, 0.01, above=False).words(0.02) == "0.02: no"


def test_every_bound_has_its_figure() -> None:
    tables = {
        "mujoco": column(**{figure: 0.90 for _, figure, _, _ in DIRECT}),
        "korean": column(absent=0.88, count_all=0.95),
        "320x240": column(ground_one_iou=0.85),
        "fov 60-75": column(ground_one_iou=0.80),
        "held-out pairs": column(ground_one_iou=0.45),
    }
    found = {verdict.what: verdict for verdict in verdicts(tables)}
    assert len(found) == len(DIRECT) + 3
    assert found["Korean, most that a figure is behind English"].value == pytest.approx(0.02)
    assert found["other sizes, light and views, most that the IoU is behind"].value == pytest.approx(0.10)
    assert found["held-out pairs, IoU as a share of the seen"].value == pytest.approx(0.5)
    table = markdown(list(found.values()))
    assert "| one named object, mean IoU | 0.900 ± 0.010 | 0.8: yes | 0.9: yes, unsure |" in table
    tables["mujoco"]["absent"] |= {"low": 0.80, "high": 0.94}
    (absent,) = (verdict for verdict in verdicts(tables) if "absent" in verdict.what)
    assert (absent.ends, absent.words(0.93)) == ((0.80, 0.94), "0.93: no, unsure")
    assert "answered with nothing | 0.900 (0.800 to 0.940) | 0.95: no | 0.99: no |" in markdown([absent])
    rows = as_json(list(found.values()))
    assert rows[0]["at_least"] is True and rows[-1]["at_least"] is None
    assert rows[0]["low"] is None and as_json([absent])[0]["low"] == 0.80
    json.dumps(rows, allow_nan=False)
    measured = Verdict("as evaluation measures it", np.float64(0.9), np.float64(0.1), 0.8, 0.95)
    json.dumps(as_json([measured]), allow_nan=False)
    assert verdicts({}) == []
    nothing_seen = {"mujoco": column(ground_one_iou=0.0), "held-out pairs": column(ground_one_iou=0.0)}
    assert [verdict.what for verdict in verdicts(nothing_seen)] == ["one named object, mean IoU"]


def test_figures_are_compared_as_the_card_shows_them() -> None:
    shipped = {"mujoco": column(absent=0.9871, list_f1=0.5)}
    assert compared({"mujoco": column(absent=0.9874)}, shipped).startswith("1 of 1 figures")
    text = compared({"mujoco": column(absent=0.9871, list_f1=0.6, way=1.0)}, shipped)
    assert "1 of 2" in text and "mujoco list_f1 0.600 (was 0.500)" in text
    other = compared({"mujoco": column(absent=0.9871)}, shipped, "x.json holds figures of another model")
    assert other == "x.json holds figures of another model: 1 of 1 figures are the same as there"


def test_the_bundled_model_comes_with_figures_for_every_bound() -> None:
    report = json.loads(share_path("models/exaone4_5-tabletop-tiny/evaluation.json").read_text())
    assert len(verdicts(report["tables"])) == len(DIRECT) + 3
