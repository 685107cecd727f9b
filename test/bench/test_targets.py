"""The page says of every figure that has a target whether the run met it, and what could not be measured."""

from __future__ import annotations

from typing import Any

import pytest

from exaone_ros.bench.table import _drafts, _targets


def results(**changes: Any) -> dict[str, Any]:
    """Of a run that met every target by a little."""
    figures = {
        "three": 6.0, "ten": 10.0, "later": 0.24, "difference": 4.9, "overhead": 10.0, "jitter": 5.0, "in_time": 40,
    } | changes  # fmt: skip
    control = {"perception_beside": True, "realtime_asked": True, "loop_jitter_p95": figures["jitter"], "stops": 40}
    others = {"realtime_asked": True, "loop_jitter_p95": 99.0, "stops": 40, "within_one_period": 0}
    return {
        "three_questions": {"ratio": figures["three"]},
        "ten_questions": {"ratio": figures["ten"]},
        "later_questions": {"ratio": figures["later"]},
        "reasoning_beside": {"difference_p95_ms": figures["difference"], "step_ms": 5.0},
        "ros_overhead_ms": {"640x480": {"p95": figures["overhead"]}, "1280x720": {"p95": 99.0}},
        "control_loop_ms": [
            control | {"within_one_period": figures["in_time"]},
            others | {"perception_beside": True, "realtime_asked": False},
            others | {"perception_beside": False},
        ],
    }


def test_a_run_that_met_all_targets_says_so() -> None:
    page = _targets(results())
    assert page.count("| met |") == 8 and "missed" not in page


@pytest.mark.parametrize(
    ("figure", "value", "missed"),
    [
        ("three", 5.5, 1), ("three", 4.9, 2), ("ten", 9.9, 1), ("later", 0.25, 1), ("difference", 5.0, 1),
        ("overhead", 10.1, 1), ("jitter", 5.1, 1), ("in_time", 39, 1),
    ],
)  # fmt: skip
def test_a_figure_that_misses_its_target_is_named(figure: str, value: float, missed: int) -> None:
    assert _targets(results(**{figure: value})).count("| **missed** |") == missed


def test_the_part_on_drafts_says_where_there_is_no_layer_to_draft_with() -> None:
    worth = {
        "steps": 1.0, "tokens": 1.0, "drafted": 0.0, "accepted": 0.0, "same": 1, "answers": 1, "answer_ms": 1.0,
        "cpu_ms": 1.0,
    }  # fmt: skip
    assert "has no MTP layer" in _drafts({"none": worth, "previous 8": worth})
    assert "has no MTP layer" not in _drafts({"none": worth, "mtp 1": worth})
