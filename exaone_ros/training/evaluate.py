"""Measuring a shipped checkpoint through the engine, on frames that training never saw, and the table of it.

Greedy, under the grammar, with the first wording of each question: what a user of the package gets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import DatasetError
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.score import match
from exaone_ros.tasks import Count, Counted, Decided, Grounding
from exaone_ros.training.own_frames import read_frame
from exaone_ros.training.own_pictures import HELD_OUT_ONE_IN, OwnPictures
from exaone_ros.training.own_questions import OwnQuestioner
from exaone_ros.training.questions import Question, Questioner
from exaone_ros.training.scores import FrameF1, Scores
from exaone_ros.training.splits import HELD_OUT_PAIRS, frame_seed
from exaone_ros.training.truth import Truth

TRIES = 12
"""A kind of question is drawn this often at most before a frame is said to have none of it."""

ASKED = {
    "name": 2, "list": 1, "count": 1, "count_kind": 2, "absent": 1, "relation": 2, "way": 1, "pick": 1, "side": 1,
    "pick_relation": 1, "class": 1, "hindrance": 1,
}  # fmt: skip
"""Questions of each kind on each frame, where it has an unambiguous one."""


UNANSWERED = "unanswered"
"""The figure that says which share of the questions got no answer at all; they count in no other figure."""


class Answering(Protocol):
    """What evaluation needs of an engine: `Engine.answer`."""

    def answer(self, frame: NDArray[np.uint8], tasks: Sequence[Any]) -> Any: ...


def _pixels(frame: LabelledFrame, box: Sequence[int]) -> tuple[float, float, float, float]:
    height, width = frame.image.shape[:2]
    return box[0] * width / 1000, box[1] * height / 1000, box[2] * width / 1000, box[3] * height / 1000


class Examiner:
    """Asks, scores, and sums up.

    Args:
        engine: answers.
        seed: of the choice of questions.
    """

    def __init__(self, engine: Answering, seed: int = 0) -> None:
        self._engine, self._seed = engine, seed

    def examine(
        self,
        frames: Iterable[LabelledFrame],
        language: str = "en",
        kinds: dict[str, int] | None = None,
        thinking: bool = False,
        questioner: Callable[..., Questioner] = Questioner,
    ) -> dict[str, dict[str, float]]:
        """Ask on all frames and return figure -> {value, interval, low, high, n}; `thinking`: reasoning first."""
        scores: dict[str, Scores] = {}
        lists = FrameF1()
        asked = 0
        for number, frame in enumerate(frames):
            rng = np.random.default_rng([self._seed, number])
            asker = questioner(Truth.of(frame), rng, language, first_wording=True, thinking=thinking)
            questions = list(questions_of(asker, ASKED if kinds is None else kinds))
            if not questions:
                continue
            answers = self._engine.answer(frame.image, [question.task for question in questions]).answers
            asked += len(questions)
            for question, answer in zip(questions, answers, strict=True):
                self._score(frame, question, answer.result, scores, lists)
        if UNANSWERED in scores:  # a share of all questions; no such row where everything was answered
            missed = scores[UNANSWERED].values
            missed.extend([0.0] * (asked - len(missed)))
        table = {name: score.summary() for name, score in sorted(scores.items())}
        return table | ({"list_f1": lists.summary()} if lists.rows else {})

    @staticmethod
    def _score(
        frame: LabelledFrame, question: Question, result: Any, scores: dict[str, Scores], lists: FrameF1
    ) -> None:
        def note(name: str, value: float) -> None:
            scores.setdefault(name, Scores()).values.append(float(value))

        truth = true_boxes(frame, question)
        if isinstance(result, Counted):
            kind = "count_all" if question.kind == "count" else "count_kind"
            note(kind, question.answer == Count.answer(result.count))
        elif isinstance(result, Decided):
            kind = {"way": "decide_way", "pick": "decide_pick"}.get(question.kind, "decide_relation")
            note(kind, json.loads(question.answer)["choice"] == result.choice)
        elif isinstance(result, Grounding):
            found = [(d.label, d.box) for d in result.detections]
            if question.kind == "absent":
                note("absent", not found)
            elif question.kind == "list":
                hits = sum(overlap >= 0.5 for _, _, overlap in match(found, truth))
                lists.rows.append((len(found), len(truth), hits))
            elif question.kind == "hindrance":
                note("hindrance", _all_right(found, truth))
            elif question.kind == "class":
                note("ground_class", _all_right(found, truth))
            else:
                overlaps = {j: overlap for _, j, overlap in match(found, truth)}
                name = "ground_relation" if question.kind == "relation" else "ground_one"
                if len(truth) > 1:  # the same name several times: each of them is to be found
                    name = "ground_each"
                for j in range(len(truth)):
                    note(f"{name}_iou", overlaps.get(j, 0.0))
                    note(f"{name}_over_50", overlaps.get(j, 0.0) >= 0.5)
        else:  # no answer at all
            note(UNANSWERED, 1.0)


def _all_right(found: Sequence[tuple[str, Any]], truth: Sequence[tuple[str, Any]]) -> bool:
    pairs = match(list(found), list(truth))
    return len(found) == len(truth) == sum(overlap >= 0.5 for _, _, overlap in pairs)


def true_boxes(frame: LabelledFrame, question: Question) -> list[tuple[str, tuple[float, float, float, float]]]:
    """What a grounding question should have found: label and box in pixels of the frame."""
    answer = json.loads(question.answer) if question.answer.startswith("[") else []
    return [(entry["label"], _pixels(frame, entry["bbox_2d"])) for entry in answer]


def questions_of(asker: Questioner, kinds: dict[str, int]) -> Iterator[Question]:
    """So many questions of each kind, as far as the frame has unambiguous ones."""
    for kind, number in kinds.items():
        for _ in range(number):
            for _ in range(TRIES):
                if kind == "count":
                    question = asker.ask("count_all")
                else:
                    question = asker.ask("count" if kind == "count_kind" else kind)
                if question is not None and question.kind == kind:
                    yield question
                    break


def mujoco_frames(
    split: str, number: int, width: int = 640, height: int = 480, *, shadows: bool = True, **scene: Any
) -> Iterator[LabelledFrame]:
    """Frames of the simulator's camera; `scene` goes to SceneOptions. The split "heldout" shows held-out pairs only."""
    from exaone_ros.sim.sampling import SceneOptions
    from exaone_ros.sim.tabletop import TabletopRenderer

    pairs: dict[str, Any] = {"include_pairs" if split == "heldout" else "exclude_pairs": HELD_OUT_PAIRS}
    with TabletopRenderer(width, height, shadows=shadows) as renderer:
        for index in range(number):
            yield renderer.render(frame_seed(split, index), SceneOptions(**pairs, **scene))


def flat_frames(split: str, number: int, width: int = 336, height: int = 252) -> Iterator[LabelledFrame]:
    """Frames of the flat renderer."""
    from exaone_ros.training.flat_renderer import FlatOptions, FlatRenderer

    renderer = FlatRenderer(width, height)
    for index in range(number):
        yield renderer.render(frame_seed(split, index), FlatOptions(exclude_pairs=HELD_OUT_PAIRS))


def plain_frames(split: str, number: int, width: int = 640, height: int = 480) -> Iterator[LabelledFrame]:
    """Frames of the plain renderer, which nothing is trained on."""
    from exaone_ros.sim.sampling import SceneOptions
    from exaone_ros.training.plain_renderer import PlainRenderer

    renderer = PlainRenderer(width, height)
    for index in range(number):
        yield renderer.render(frame_seed(split, index), SceneOptions(exclude_pairs=HELD_OUT_PAIRS))


BRIEF = {"name": 2, "list": 1, "count": 1, "count_kind": 1}
REASONED = {"count": 1, "count_kind": 2, "way": 1, "pick": 1, "side": 1, "pick_relation": 1}
"""What is asked with reasoning, where training has reasoned."""


@dataclass(frozen=True)
class Examination:
    """A column of the table.

    Attributes:
        frames: renders them anew at each call.
        language: of the questions.
        kinds: how many of each kind on a frame; None = `ASKED`.
        thinking: reasoning before the answer is asked for.
        questioner: asks; takes the arguments of `Questioner`.
    """

    frames: Callable[[], Iterator[LabelledFrame]]
    language: str = "en"
    kinds: dict[str, int] | None = None
    thinking: bool = False
    questioner: Callable[..., Questioner] = Questioner


def examinations(frames: int) -> dict[str, Examination]:
    """The columns of the table; `frames` in the main columns, a third of it in the others."""
    some = max(1, frames // 3)

    def brief(split: str = "test", width: int = 640, height: int = 480, **options: Any) -> Examination:
        return Examination(lambda: mujoco_frames(split, some, width, height, **options), kinds=BRIEF)

    return {
        "mujoco": Examination(lambda: mujoco_frames("test", frames)),
        "korean": Examination(lambda: mujoco_frames("test", frames), "ko"),
        "flat": Examination(lambda: flat_frames("test", frames)),
        "thinking": Examination(lambda: mujoco_frames("test", some), kinds=REASONED, thinking=True),
        "320x240": brief(width=320, height=240),
        "640x360": brief(width=640, height=360),
        "1280x720": brief(width=1280, height=720),
        "no shadows": brief(shadows=False),
        "ambient only": brief(shadows=False, ambient_share=1.0),
        "fov 60-75": brief(fovy_deg=(60.0, 75.0)),
        "held-out pairs": brief("heldout"),
        "plain areas": Examination(lambda: plain_frames("test", some), kinds=BRIEF),
    }


OWN_COLUMN = "own pictures"
OWN_ASKED = {
    "name": 2, "list": 1, "count": 1, "count_kind": 2, "absent": 1, "relation": 2, "pick": 1, "side": 1,
    "pick_relation": 1,
}  # fmt: skip
"""Questions of each kind on each picture of one's own."""


def own_examination(own: OwnPictures, language: str = "en") -> Examination:
    """A column on pictures of one's own that were held out of training, at the size they have.

    Raises:
        DatasetError: none was held out.
    """
    if not own.held_out:
        raise DatasetError(
            f"none of the {len(own.training)} pictures is held out (about one in {HELD_OUT_ONE_IN} is, by file name); "
            "add more pictures to have some to judge by"
        )
    questioner = partial(OwnQuestioner, own.names)
    return Examination(lambda: map(read_frame, own.held_out), language, OWN_ASKED, questioner=questioner)


def markdown(tables: dict[str, dict[str, dict[str, float]]]) -> str:
    """The figures as a Markdown table: a row for each figure, a column for each examination."""
    figures = sorted({figure for table in tables.values() for figure in table})
    lines = ["| | " + " | ".join(tables) + " |", "|---" * (len(tables) + 1) + "|"]
    for figure in figures:
        cells = []
        for table in tables.values():
            entry = table.get(figure)
            cells.append(f"{entry['value']:.3f} ± {entry['interval']:.3f}" if entry else "")
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
