"""The benchmark of the scheduler's promises measures what it says, and its page can be written."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

from exaone_ros.bench import engine_promises
from exaone_ros.bench.table import _promises
from exaone_ros.bench.worker import questions
from exaone_ros.share import share_path

MODEL = share_path("models/exaone4_5-tabletop-tiny")


def test_there_are_ten_different_questions_and_the_first_three_are_those_of_the_demo() -> None:
    ten = questions(10)
    assert len({task.name for task in ten}) == len({task.prompt() for task in ten}) == 10
    assert ten[:3] == questions()


def test_the_figures_are_taken_and_make_a_page() -> None:
    images = [np.random.default_rng(i).integers(0, 256, (240, 320, 3), dtype=np.uint8) for i in range(2)]
    later = engine_promises.later_questions(MODEL, images[:1], threads=1)
    assert min(later["later_ms"], later["first_ms"]) > 0 and later["questions"] == 10
    periods = 2 * engine_promises.BLOCK
    beside = engine_promises.reasoning_beside(MODEL, images, 1, periods)
    assert beside["frames_alone"] == beside["frames_beside"] == periods // 2 - 1
    assert beside["stream_tokens"] > 0 and beside["step_ms"] > 0
    ten = {"ours_ms": 1, "transformers_ms": 2, "ratio": 2, "ratio_min": 2, "frames": 1}
    ten |= {"answers_equal": 10, "answers_compared": 10, "answers_asked": 10}
    page = _promises({"ten_questions": ten, "later_questions": later, "reasoning_beside": beside})
    assert "of a first question" in page and "beside the stream" in page
