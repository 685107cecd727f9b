"""Do scores mean what they say? Of the answers given with 90%, are nine in ten right?

Asked through the engine on frames that training never saw, under the grammar, greedy: the scores and probabilities that
a user of the package gets, held against the truth of the frame. See docs/confidence.md for how they are computed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.score import match
from exaone_ros.tasks import Counted, Decided, Grounding
from exaone_ros.training.evaluate import ASKED, Answering, questions_of, true_boxes
from exaone_ros.training.page import replace_between
from exaone_ros.training.questions import Question, Questioner
from exaone_ros.training.scores import wilson
from exaone_ros.training.truth import Truth

EDGES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Of the bins: narrow where a trained model puts most of its answers."""
KINDS = {"boxes": "score of a box", "options": "probability of the chosen option", "counts": "probability of a count"}
BEGIN, END = "<!-- reliability: begin -->", "<!-- reliability: end -->"
OVERLAP = 0.5
"""Intersection over union from which a box counts as right."""


@dataclass
class Claims:
    """Pairs of what was claimed and what was true.

    Attributes:
        scores: 0..1.
        right: whether the answer was right.
    """

    scores: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    def note(self, score: float, right: bool) -> None:
        """Add one; answers without a score are left out."""
        if not math.isnan(score):
            self.scores.append(score)
            self.right.append(right)

    def summary(self) -> dict[str, Any]:
        """Bins (low, high, n, mean score, share right, half-width of its 95% interval), calibration error and Brier.

        The expected calibration error is the mean distance between score and share right over the bins, weighted by
        their numbers; the Brier score is the mean squared distance of each score from 0 or 1.
        """
        scores, right = np.array(self.scores), np.array(self.right, float)
        which = np.clip(np.searchsorted(EDGES, scores, side="right") - 1, 0, len(EDGES) - 2)
        bins = []
        for index in range(len(EDGES) - 1):
            inside = which == index
            if not inside.any():
                continue
            number, share = int(inside.sum()), float(right[inside].mean())
            bins.append({
                "low": EDGES[index], "high": EDGES[index + 1], "n": number, "score": float(scores[inside].mean()),
                "right": share, "interval": wilson(share, number).half,
            })  # fmt: skip
        number = len(scores)
        error = (
            sum(entry["n"] * abs(entry["score"] - entry["right"]) for entry in bins) / number if number else math.nan
        )
        brier = float(((scores - right) ** 2).mean()) if number else math.nan
        return {"n": number, "bins": bins, "calibration_error": error, "brier": brier}


def collect(engine: Answering, frames: Iterable[LabelledFrame], seed: int = 0) -> dict[str, Claims]:
    """Ask on all frames; returns the claims about boxes, options and counts."""
    claims = {kind: Claims() for kind in KINDS}
    for number, frame in enumerate(frames):
        rng = np.random.default_rng([seed, number])
        asker = Questioner(Truth.of(frame), rng, "en", first_wording=True)
        questions = list(questions_of(asker, ASKED))
        if not questions:
            continue
        answers = engine.answer(frame.image, [question.task for question in questions]).answers
        for question, answer in zip(questions, answers, strict=True):
            note(claims, frame, question, answer.result)
    return claims


def note(claims: Mapping[str, Claims], frame: LabelledFrame, question: Question, result: Any) -> None:
    """Hold one result against the truth."""
    if isinstance(result, Grounding):
        found = [(detection.label, detection.box) for detection in result.detections]
        hits = {i for i, _, overlap in match(found, true_boxes(frame, question)) if overlap >= OVERLAP}
        for index, detection in enumerate(result.detections):
            claims["boxes"].note(detection.score, index in hits)
    elif isinstance(result, Counted):
        claims["counts"].note(result.probability, json.loads(question.answer)["count"] == result.count)
    elif isinstance(result, Decided) and result.probabilities:
        probability = result.probabilities[result.options.index(result.choice)]
        claims["options"].note(probability, json.loads(question.answer)["choice"] == result.choice)


def markdown(report: Mapping[str, Any]) -> str:
    """The tables for docs/confidence.md; pure."""
    what = (
        f"Checkpoint `{report['model']}`, backend `{report['backend']}`, greedy; {report['frames']} frames of the split"
    )
    rule = f"A box is right where a true box of its label overlaps it by {OVERLAP:g} or more."
    lines = [f"{what} '{report['split']}'. {rule}"]
    for kind, title in KINDS.items():
        entry = report["claims"][kind]
        lines += ["", f"| {title} | answers | mean | right |", "|---|---|---|---|"]
        lines += [
            f"| {b['low']:g} to {b['high']:g} | {b['n']} | {b['score']:.3f} | {b['right']:.3f} ± {b['interval']:.3f} |"
            for b in entry["bins"]
        ]
        error, brier = f"{entry['calibration_error']:.3f}", f"{entry['brier']:.3f}"
        lines += ["", f"{entry['n']} answers; expected calibration error {error}, Brier score {brier}."]
    return "\n".join(lines) + "\n"


def write_into(page: Path, report: Mapping[str, Any]) -> None:
    """Put the tables between the markers of a page.

    Raises:
        ExaoneError: the page does not have the markers.
    """
    replace_between(page, BEGIN, END, markdown(report))


def report_of(model: str, backend: str, split: str, frames: int, claims: Mapping[str, Claims]) -> dict[str, Any]:
    """What is written as JSON."""
    summaries = {kind: entry.summary() for kind, entry in claims.items()}
    return {"model": model, "backend": backend, "split": split, "frames": frames, "claims": summaries}
