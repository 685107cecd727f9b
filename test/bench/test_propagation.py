"""Propagated boxes against held ones, on a short sweep of the simulated head."""

from __future__ import annotations

import pytest

pytest.importorskip("mujoco")

from exaone_ros.bench.propagation import HEAD, Motion, measure, rows


def test_propagated_boxes_lie_better_than_held_ones() -> None:
    result = measure(Motion(rate_hz=30, width=320, height=240, looks_hz=2, latency_s=0.2, seconds=1.4, seed=3))
    assert result["objects_scored"] > 60
    assert result["mean_iou"]["propagated"] > result["mean_iou"]["held"] + 0.2
    assert result["mean_iou"]["propagated"] > 0.6
    (row,) = rows([result])
    assert row.count("|") == HEAD.splitlines()[0].count("|") and "| 14 degrees in 1 s | 2 Hz | 0.2 s |" in row
