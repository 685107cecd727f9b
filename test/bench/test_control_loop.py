"""What the benchmark of the control loop makes of what its probe noted."""

from __future__ import annotations

import math
from typing import Any

import pytest

from exaone_ros.bench.control_loop import figures
from exaone_ros.bench.table import _control_row


def measured(arrivals_s: list[float], jitter_ms: list[float], estop_s: list[float]) -> dict[str, Any]:
    return {
        "arrivals_s": arrivals_s, "loop_jitter_p95_ms": jitter_ms, "estop_to_hold_s": estop_s, "scheduling": "fifo 50",
    }  # fmt: skip


def test_jitter_is_the_distance_from_the_period() -> None:
    arrivals_s = [0.0, 1 / 30, 2 / 30, 2 / 30 + 0.040, 2 / 30 + 0.040 + 0.030]
    out = figures(measured(arrivals_s, [1.0, 3.5, 2.0], [0.004, 0.050]))
    assert out["loop_jitter_p95"] == 3.5
    assert out["arrival_jitter"]["p50"] == pytest.approx((3.333 + 0.0) / 2, abs=0.02)
    assert (out["estop_to_hold"]["max"], out["within_one_period"], out["stops"], out["commands"]) == (50.0, 1, 2, 5)


def test_a_short_run_has_no_figure_of_the_loop() -> None:
    out = figures(measured([0.0, 0.033], [], [0.001]))
    assert math.isnan(out["loop_jitter_p95"])


def test_the_row_of_the_page() -> None:
    row = _control_row(figures(measured([0.0, 0.033], [1.25], [0.001])) | {"perception_beside": True})
    assert row == "| beside | fifo 50 | 1.25 | 0.33 / 0.33 | 1.0 / 1.0 / 1.0 | 1 of 1 |"
