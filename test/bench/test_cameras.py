"""The figures of several cameras are what the probe printed, and a late publication would be seen."""

from __future__ import annotations

from typing import Any

from exaone_ros.bench.cameras import HEAD, rows, summary


def printed(age_s: float = 0.2) -> dict[str, Any]:
    """What the probe prints of two cameras in ten seconds: published age, received age, engine time."""
    samples = {"a": [[age_s, age_s + 0.01, 0.1]] * 20, "b": [[0.1, 0.12, 0.1]] * 10}
    return {"seconds": 10.0, "cpu_s": 4.0, "sent": {"a": 150, "b": 149}, "samples_s": samples}


def test_rates_ages_and_cpu() -> None:
    found = summary(printed(), 2, max_age_s=1.0)
    assert found["answered_hz"] == {"a": 2.0, "b": 1.0} and found["least_of_most"] == 0.5
    assert (found["cpu_percent"], found["sent_hz"], found["answers"]) == (40.0, 14.9, 30)
    assert found["age_published_ms"]["p50"] == 200 and found["oldest_published_ms"] == 200
    assert found["published_too_late"] == 0


def test_what_was_published_too_late_is_counted() -> None:
    assert summary(printed(age_s=1.001), 2, max_age_s=1.0)["published_too_late"] == 20


def test_the_table_has_a_cell_for_each_heading() -> None:
    (row,) = rows([summary(printed(), 2, max_age_s=1.0)])
    assert row.count("|") == HEAD.splitlines()[0].count("|")
