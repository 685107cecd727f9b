"""Statistics against numpy, and normalising there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.action.statistics import MEAN_STD, QUANTILES, Statistics
from exaone_ros.errors import DatasetError

DATA = np.random.default_rng(0).normal([1, -2, 0], [0.5, 3, 0], (500, 3))


def test_against_numpy() -> None:
    stats = Statistics.of(DATA)
    assert stats.mean == pytest.approx(DATA.mean(0))
    assert stats.std == pytest.approx(DATA.std(0))
    assert stats.q99 == pytest.approx(np.quantile(DATA, 0.99, axis=0))
    assert (stats.min.tolist(), stats.max.tolist(), stats.count) == (DATA.min(0).tolist(), DATA.max(0).tolist(), 500)


def test_merging_parts_is_exact_but_for_quantiles() -> None:
    whole = Statistics.of(DATA)
    merged = Statistics.merged([Statistics.of(DATA[:100]), Statistics.of(DATA[100:130]), Statistics.of(DATA[130:])])
    for key in ("mean", "std", "min", "max"):
        assert getattr(merged, key) == pytest.approx(getattr(whole, key))
    assert merged.count == 500
    assert merged.q50 == pytest.approx(whole.q50, abs=0.5)


def test_normalised_values_have_the_promised_scale() -> None:
    stats = Statistics.of(DATA)
    standard = stats.normalised(DATA)
    assert standard[:, :2].mean(0) == pytest.approx(0, abs=1e-5)
    assert standard[:, :2].std(0) == pytest.approx(1, abs=1e-4)
    assert np.isfinite(standard).all()  # the third entry never moves
    quantiles = stats.normalised(DATA, QUANTILES)
    assert np.quantile(quantiles[:, :2], [0.01, 0.99], axis=0) == pytest.approx(np.array([[-1, -1], [1, 1]]), abs=1e-4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.sampled_from([MEAN_STD, QUANTILES]))
def test_there_and_back(value: list[float], mode: str) -> None:
    stats = Statistics.of(DATA)
    back = stats.denormalised(stats.normalised([value], mode), mode)
    assert back[0] == pytest.approx(value, abs=1e-4)


def test_json_there_and_back() -> None:
    stats = Statistics.of(DATA)
    again = Statistics.from_json(json.loads(json.dumps(stats.to_json())))
    assert again.q10.tolist() == stats.q10.tolist()
    assert again.count == 500


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Statistics.of(np.zeros((0, 3))), r"shape \[0, 3\]"),
        (lambda: Statistics.of([[np.nan]]), "not finite"),
        (lambda: Statistics.from_json({"mean": [0]}), "'std' is missing"),
        (lambda: Statistics.from_json({"mean": [0], "std": [1, 2], "q01": [0], "q99": [0]}), "lengths differ"),
        (lambda: Statistics.of(DATA).normalised(DATA, "minmax"), "normalisation is 'minmax'"),
        (lambda: Statistics.merged([]), "nothing to merge"),
    ],
)
def test_refusals(call, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DatasetError, match=words):
        call()
