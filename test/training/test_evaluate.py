"""Evaluation: a perfect answerer gets full marks, a silent one none, and intervals are those of the books."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.tasks import Count, Counted, Decide, Decided, Decoded, Ground, Task
from exaone_ros.training.acceptance import Worth, WorthReport, read_worth, write_worth
from exaone_ros.training.card import BUNDLED, NOT_SAID, write_card
from exaone_ros.training.evaluate import Examiner, examinations, markdown
from exaone_ros.training.questions import KINDS, Questioner
from exaone_ros.training.scores import FrameF1, Scores, wilson
from exaone_ros.training.truth import Truth

WEIGHTS = "0123456789abcdef" * 4


class Oracle:
    """Answers by looking the question up among those that the frame's truth gives."""

    def __init__(self, frames: Sequence[LabelledFrame], spoil: bool = False) -> None:
        self._frames = {id(frame.image): frame for frame in frames}
        self._spoil = spoil

    def answer(self, frame: np.ndarray, tasks: Sequence[Task]) -> Any:
        truth = Truth.of(self._frames[id(frame)])
        return SimpleNamespace(answers=[SimpleNamespace(result=self._result(frame, truth, task)) for task in tasks])

    def _result(self, image: np.ndarray, truth: Truth, task: Task) -> Any:
        height, width = image.shape[:2]
        if self._spoil:
            if isinstance(task, Decide):
                return Decided("neither", task.options, ())
            if isinstance(task, Count):
                return task.read(Decoded(Count.answer(99)), width, height)
            assert isinstance(task, Ground)
            label = task.classes[0] if task.classes else "red cube"
            return task.read(Decoded(Ground.answer([((0, 0, 5, 5), label)])), width, height)
        rng = np.random.default_rng(0)
        asker = Questioner(truth, rng, task.language, first_wording=True)
        for _ in range(3000):
            for kind in KINDS:
                question = asker.ask(kind)
                if question is not None and question.task.prompt() == task.prompt():
                    return task.read(Decoded(question.answer), width, height)
        raise AssertionError(f"no question like {task.prompt()!r}")


def test_perfect_answers_get_full_marks(flat_frames: list[LabelledFrame]) -> None:
    kinds = {"name": 1, "list": 1, "count": 1, "count_kind": 1, "absent": 1, "class": 1, "way": 1, "hindrance": 1}
    table = Examiner(Oracle(flat_frames)).examine(flat_frames[:6], "en", kinds)
    for figure, entry in table.items():
        assert entry["value"] >= (0.9 if figure.endswith("iou") else 0.99), (figure, entry)
    assert {"ground_one_iou", "list_f1", "count_all", "count_kind", "absent", "decide_way"} <= set(table)


def test_wrong_answers_get_none(flat_frames: list[LabelledFrame]) -> None:
    table = Examiner(Oracle(flat_frames, spoil=True)).examine(flat_frames[:6])
    assert {figure: entry["value"] for figure, entry in table.items() if entry["value"] > 0.05} == {}


def test_intervals() -> None:
    share = Scores([1.0] * 90 + [0.0] * 10).summary()
    assert share["value"] == pytest.approx(0.9)
    assert share["interval"] == pytest.approx(0.0591, abs=2e-3)  # Wilson's half width at 90 of 100
    assert Scores([1.0] * 50).summary()["interval"] > 0.02, "fifty of fifty does not prove certainty"
    mean = Scores([0.5, 0.7, 0.9]).summary()
    half = 1.96 * 0.2 / 3**0.5
    assert {key: pytest.approx(value) for key, value in mean.items()} == {
        "value": 0.7, "interval": half, "low": 0.7 - half, "high": 0.7 + half, "n": 3,
    }  # fmt: skip
    one = Scores([0.7]).summary()
    assert (one["value"], one["interval"], one["low"], one["high"]) == (0.7, 0.5, 0.0, 1.0), "one value proves nothing"
    f1 = FrameF1([(2, 2, 2), (2, 2, 1), (0, 0, 0)]).summary()
    assert f1["value"] == pytest.approx(6 / 8)
    assert f1["low"] <= f1["value"] <= f1["high"] and f1["interval"] == pytest.approx((f1["high"] - f1["low"]) / 2)


def test_wilson_reaches_inwards_only_at_the_ends() -> None:
    """Against values of the literature: 10 of 10 are 0.722 to 1, and 81 of 263 are 0.255 to 0.366."""
    all_right = wilson(1.0, 10)
    assert (all_right.low, all_right.high) == (pytest.approx(0.7225, abs=1e-3), pytest.approx(1.0))
    assert all_right.high <= 1.0
    none_right = wilson(0.0, 10)
    assert (none_right.low, none_right.high) == (pytest.approx(0.0), pytest.approx(0.2775, abs=1e-3))
    assert none_right.low >= 0.0
    some = wilson(81 / 263, 263)
    assert (some.low, some.high) == (pytest.approx(0.2553, abs=1e-3), pytest.approx(0.3662, abs=1e-3))
    whole = Scores([1.0] * 10).summary()
    assert (whole["low"], whole["high"]) == (all_right.low, all_right.high)
    assert whole["interval"] == pytest.approx(all_right.half)


def test_same_questions_every_time(flat_frames: list[LabelledFrame]) -> None:
    asked: list[list[str]] = []

    class Recorder:
        def answer(self, frame: np.ndarray, tasks: Sequence[Task]) -> Any:
            asked[-1].extend(task.prompt() for task in tasks)
            return SimpleNamespace(answers=[SimpleNamespace(result=None) for _ in tasks])

    for _ in range(2):
        asked.append([])
        Examiner(Recorder()).examine(flat_frames[:3])
    assert asked[0] == asked[1] != []


def test_what_got_no_answer_is_a_share_of_all_questions(flat_frames: list[LabelledFrame]) -> None:
    class Silent:
        """Answers the counts, and nothing else."""

        def answer(self, frame: np.ndarray, tasks: Sequence[Task]) -> Any:
            results = [Counted(task.label, 0, 1.0) if isinstance(task, Count) else None for task in tasks]
            return SimpleNamespace(answers=[SimpleNamespace(result=result) for result in results])

    table = Examiner(Silent()).examine(flat_frames[:3], kinds={"count": 1, "way": 1, "absent": 1})
    assert set(table) == {"count_all", "unanswered"}
    answered, missed = table["count_all"]["n"], table["unanswered"]
    assert missed["value"] == pytest.approx(1 - answered / missed["n"])
    assert 0 < missed["value"] < 1


def test_table_and_card_hold_every_figure(tmp_path: Path) -> None:
    tables = {
        "mujoco": {"absent": {"value": 0.5, "interval": 0.1, "n": 9}},
        "flat": {"list_f1": {"value": 1, "interval": 0, "n": 2}},
    }
    table = markdown(tables)
    assert "| absent | 0.500 ± 0.100 |  |" in table
    assert "| list_f1 |  | 1.000 ± 0.000 |" in table
    measured = WorthReport({"mtp 9": Worth(3, 3, 7.5, 20.0, 9.0, 0.41, 12.0, 11.0)}, WEIGHTS)
    write_worth(tmp_path / "acceptance.json", measured)
    drafts = read_worth(tmp_path / "acceptance.json")
    assert drafts == measured
    report = {"model": "mine", "weights": WEIGHTS, "frames": 7, "tables": tables}
    write_card(tmp_path / "README.md", report, "Made in a test.", 4_900_000, drafts)
    card = (tmp_path / "README.md").read_text()
    assert "| mtp 9 | 7.5 |" in card and "41%" in card
    assert "Made in a test." in card
    assert "4.9 million" in card
    assert "contains no EXAONE weights" in " ".join(card.split())
    assert "{" not in card.replace("{}", "")
    json.dumps(tables)


@pytest.mark.parametrize("name", ["mine", BUNDLED])
def test_a_card_tells_how_this_model_was_made_and_not_how_another_was(name: str, tmp_path: Path) -> None:
    report = {"model": name, "weights": WEIGHTS, "frames": 7, "tables": {}}
    write_card(tmp_path / "README.md", report, "", 4_900_000)
    card = (tmp_path / "README.md").read_text()
    assert f"\n# {name}\n" in card
    assert NOT_SAID in card
    assert (f"evaluate --model models/{name} " in card) == (name != BUNDLED)


def test_columns_cover_what_the_card_promises() -> None:
    assert list(examinations(30))[:3] == ["mujoco", "korean", "flat"]
    assert {"320x240", "640x360", "1280x720", "no shadows", "held-out pairs"} <= set(examinations(30))
