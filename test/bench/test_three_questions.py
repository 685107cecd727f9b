"""What the benchmark makes of both sides' replies."""

from __future__ import annotations

from typing import Any

from exaone_ros.bench.three_questions import figures

BOX = '[{"bbox_2d":[1,2,30,40],"label":"red cube"}]'
COUNT, WAY = '{"count":1}', '{"choice":"clear","reason":"The way is clear."}'


def reply(milliseconds: float, *answers: str) -> dict[str, Any]:
    return {
        "ms": milliseconds, "answers": list(answers), "same_pixels": list(answers),
        "stages_ms": {"total": milliseconds}, "peak_mb": 100.0,
    }  # fmt: skip


def test_the_ratio_is_taken_frame_by_frame() -> None:
    out = figures([reply(10, BOX, COUNT, WAY), reply(20, BOX, COUNT, WAY)], [reply(60, BOX, COUNT, WAY)] * 2)
    assert (out["ratio"], out["ratio_min"], out["frames"]) == (4.5, 3.0, 2)
    assert out["same_answers"] and out["answers_compared"] == out["answers_asked"] == 6


def test_what_no_schema_allows_is_counted_and_not_compared() -> None:
    out = figures([reply(10, BOX, COUNT, WAY)], [reply(60, '[{"bbox_2d":[1,2,30],"label":"red cube"}]', COUNT, WAY)])
    assert out["same_answers"] and (out["answers_compared"], out["answers_asked"]) == (2, 3)
    assert len(out["untyped"]) == 1


def test_another_answer_is_told() -> None:
    out = figures([reply(10, BOX, COUNT, WAY)], [reply(60, BOX, '{"count":2}', WAY)])
    assert not out["same_answers"] and out["different"] == [(COUNT, '{"count":2}')]
