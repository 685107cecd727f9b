"""The changes are those that they are called, and the table can be read."""

from __future__ import annotations

import numpy as np

from exaone_ros.bench.unchanged_view import CHANGES, THRESHOLDS, markdown
from exaone_ros.engine.unchanged import difference, signature
from exaone_ros.sim.frame import LabelledFrame, SeenObject


def frame() -> LabelledFrame:
    image = np.full((240, 320, 3), 90, np.uint8)
    instance = np.full((240, 320), -1, np.int16)
    image[100:130, 150:180], instance[100:130, 150:180] = (220, 60, 20), 0
    return LabelledFrame(image, (SeenObject.__new__(SeenObject),), None, None, instance)


def test_only_what_moves_or_goes_is_a_change_of_the_view() -> None:
    rng, seen = np.random.default_rng(0), signature(frame().image)
    found = {name: difference(seen, signature(change(frame(), rng))) for name, change in CHANGES.items()}
    assert found["noise of 2 grey levels"] < 4 and found["brighter by 3"] == 3
    assert found["object moved by 8 px"] > found["object moved by 2 px"] > 8
    assert found["object gone"] > 50


def test_the_table_has_a_row_for_each_change() -> None:
    entry = {f"{threshold:g}": {"skipped": 0.5, "answers_changed": 0.25} for threshold in THRESHOLDS}
    text = markdown({name: {"differs": 0.5, **entry} for name in CHANGES})
    assert text.count("\n") == 2 + len(CHANGES) and "| object gone | 0.50 | 0.50 / 0.25 |" in text
