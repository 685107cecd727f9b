"""Boxes from labels, against the obvious way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.sim.labels import Region, regions


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
def test_agrees_with_looking_at_each_label(seed: int, height: int, width: int, count: int) -> None:
    labels = np.random.default_rng(seed).integers(-1, max(count, 1), (height, width)).astype(np.int8)
    for label, region in enumerate(regions(labels, count)):
        ys, xs = np.nonzero(labels == label)
        if len(xs):
            assert region == Region((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), len(xs))
        else:
            assert region is None


def test_too_many_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="17 labels"):
        regions(np.zeros((2, 2), np.int8), 17)
