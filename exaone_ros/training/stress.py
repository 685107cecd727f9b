"""Where a checkpoint breaks: the same validation scenes in other light, rooms, cameras and words.

A development set: no frame of it is trained on, but its first tables chose what training draws since
(`changed_scenes.training_change`, `other_words`, `flat_post.hazed`, the image sizes of `data` and `prerender`): on
purpose close to some of these conditions, and in part the same. So it says what training mends and what it does not,
and not how a checkpoint does on what nobody thought of; the held-out figures are those of `evaluate`, on test scenes.
Few frames on many conditions: an interval is wide, a collapse is seen all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.score import match
from exaone_ros.sim.vocabulary import COLOURS, SHAPES
from exaone_ros.tasks import Count, Counted, Decide, Decided, Ground, Grounding, Task
from exaone_ros.training import changed_scenes as scenes
from exaone_ros.training import stress_pictures as pictures
from exaone_ros.training.changed_scenes import SPLIT, Strange, strange_frames
from exaone_ros.training.evaluate import Answering, Examiner
from exaone_ros.training.scores import Scores
from exaone_ros.training.stress_report import FIGURES, UNCHANGED
from exaone_ros.training.stress_words import NAMINGS, TURNED, WAYS
from exaone_ros.training.truth import Truth

ASKED = {"name": 2, "list": 1, "count": 1, "count_kind": 1, "absent": 1, "way": 1, "pick": 1}
OVERLAP = 0.5


AS_DRAWN = Strange()


@dataclass(frozen=True)
class Condition:
    """One row.

    Attributes:
        strange: how the scene is changed before it is rendered.
        picture: how the picture is changed afterwards.
    """

    strange: Strange = AS_DRAWN
    picture: pictures.Change = pictures.kept


def _seen(change: pictures.Change) -> Condition:
    return Condition(picture=change)


def _scene(**strange: Any) -> Condition:
    return Condition(Strange(**strange))


_LIGHT, _DARK = (0.85, 0.85, 0.84), (0.06, 0.06, 0.07)

CONDITIONS: dict[str, Condition] = {
    UNCHANGED: Condition(),
    "gamma 0.5 (bright)": _seen(pictures.gamma(0.5)),
    "gamma 2 (dark)": _seen(pictures.gamma(2.0)),
    "a third of the light": _seen(pictures.exposure(0.33)),
    "overexposed 1.8x": _seen(pictures.exposure(1.8)),
    "haze, half of the contrast": _seen(pictures.haze(0.5)),
    "warm white balance": _seen(pictures.cast(1.2, 1.0, 0.7)),
    "JPEG quality 30": _seen(pictures.jpeg(30)),
    "JPEG quality 8": _seen(pictures.jpeg(8)),
    "noise, 15 levels": _seen(pictures.sensor_noise(15)),
    "noise, 40 levels": _seen(pictures.sensor_noise(40)),
    "out of focus, 0.5% of the width": _seen(pictures.out_of_focus(0.005)),
    "shaken, 3% of the width": _seen(pictures.shaken(0.03)),
    "red and blue swapped": _seen(pictures.swapped),
    "grey": _seen(pictures.grey),
    "160x120": _scene(width=160, height=120),
    "1920x1080": _scene(width=1920, height=1080),
    "480x640 (portrait)": _scene(width=480, height=640),
    "480x640, padded to 4:3": Condition(Strange(width=480, height=640), pictures.padded(4 / 3)),
    "480x480": _scene(width=480, height=480),
    "1280x480 (8:3)": _scene(width=1280, height=480),
    "1280x480, padded to 4:3": Condition(Strange(width=1280, height=480), pictures.padded(4 / 3)),
    "hard light from the side": _scene(scene=scenes.side_light),
    "ambient light, dim": _scene(scene=scenes.lit(key=0.0, fill=0.0, ambient=0.35)),
    "ambient light, full": _scene(scene=scenes.lit(key=0.0, fill=0.0, ambient=1.0)),
    "white table, floor and wall": _scene(model=scenes.painted(_LIGHT, _LIGHT, _LIGHT)),
    "black table, floor and wall": _scene(model=scenes.painted(_DARK, _DARK, _DARK)),
    "table in a strong colour": _scene(model=scenes.painted(scenes.STRONG, (0.5, 0.5, 0.5), (0.7, 0.7, 0.7))),
    "blue floor, green wall": _scene(model=scenes.painted((0.6, 0.5, 0.4), (0.15, 0.25, 0.6), (0.2, 0.55, 0.3))),
    "shiny objects": _scene(model=scenes.surface(specular=1.0, shininess=1.0)),
    "glowing objects": _scene(model=scenes.surface(emission=0.6)),
    "pale colours": _scene(scene=scenes.brighter),
    "objects half as large": _scene(scene=scenes.sized(0.55)),
    "stacked in pairs": _scene(poses=scenes.stacked),
    "cylinders and mugs lying": _scene(poses=scenes.lying),
    "camera 20 cm nearer": _scene(scene=scenes.looking(sway_m=(0.12, 0.0, -0.16))),
    "camera 40 cm farther": _scene(scene=scenes.looking(sway_m=(-0.30, 0.0, 0.26))),
    "steeper by 20 degrees": _scene(scene=scenes.looking(tilt=0.35, sway_m=(0.25, 0.0, 0.1))),
    "flatter by 20 degrees": _scene(scene=scenes.looking(tilt=-0.35, sway_m=(-0.3, 0.0, -0.15))),
    "camera rolled by 15 degrees": _scene(model=scenes.rolled(15.0)),
    "field of view 35": _scene(scene=scenes.looking(fovy=35.0)),
    "field of view 90": _scene(scene=scenes.looking(fovy=90.0)),
}
"""Rows of the table, in this order."""


def each_condition(names: Iterable[str], number: int) -> Iterator[tuple[str, Iterator[LabelledFrame]]]:
    """Each condition's frames: the same so many scenes of the split "validation" (`strange_frames`), changed.

    What is not changed before it is rendered is rendered once for all conditions.
    """
    unchanged: list[LabelledFrame] = []
    for name in names:
        condition = CONDITIONS[name]
        if condition.strange != AS_DRAWN:
            yield name, _arriving(strange_frames(condition.strange, number), condition.picture)
            continue
        unchanged = unchanged or list(strange_frames(condition.strange, number))
        yield name, _arriving(unchanged, condition.picture)


def _arriving(frames: Iterable[LabelledFrame], change: pictures.Change) -> Iterator[LabelledFrame]:
    """Frames with their pictures changed; instance maps, which nobody asks for here, stay as rendered."""
    for index, frame in enumerate(frames):
        yield replace(frame, image=change(frame.image, index))


def examine(engine: Answering, frames: Iterable[LabelledFrame]) -> dict[str, dict[str, float]]:
    """Figures of a condition's frames, those of `FIGURES`."""
    table = Examiner(engine).examine(frames, kinds=ASKED)
    return {figure: table[figure] for figure in FIGURES if figure in table}


def examine_words(engine: Answering, frames: Sequence[LabelledFrame]) -> dict[str, dict[str, dict[str, float]]]:
    """The same things named in other words: found where they are, and not where they are not."""
    found = {name: (Scores(), Scores()) for name in NAMINGS}
    for number, frame in enumerate(frames):
        rng, truth = np.random.default_rng([17, number]), Truth.of(frame)
        there = [(t.colour, t.shape) for t in truth.clear if truth.matching(t.shape, t.colour) == (t,)]
        missing = [(c, s) for c in COLOURS for s in SHAPES if truth.matching(s, c) == ()]
        if not there or not missing:
            continue
        pairs = [there[int(rng.integers(len(there)))], missing[int(rng.integers(len(missing)))]]
        tasks: list[Task] = [
            Ground(classes=(naming(*pair),), language=language)
            for language, naming in NAMINGS.values()
            for pair in pairs
        ]
        answers = iter(engine.answer(frame.image, tasks).answers)
        (thing,) = truth.matching(pairs[0][1], pairs[0][0]) or (None,)
        for present, absent in found.values():
            boxes = _boxes(next(answers).result)
            hits = match([("", box) for box in boxes], [("", thing.box)]) if thing is not None else []
            present.values.append(float(len(boxes) == 1 and any(overlap >= OVERLAP for *_, overlap in hits)))
            absent.values.append(float(not _boxes(next(answers).result)))
    return {name: {"found": a.summary(), "absent": b.summary()} for name, (a, b) in found.items()}


def examine_ways(engine: Answering, frames: Iterable[LabelledFrame]) -> dict[str, dict[str, float]]:
    """The question about the way, asked in other words and with other options."""
    found = {name: Scores() for name in WAYS}
    for frame in frames:
        truth = Truth.of(frame)
        if not truth.way_is_certain:
            continue
        state = 2 if truth.person else 1 if truth.obstacle else 0
        tasks: list[Task] = [
            Decide(instruction=instruction, options=options[::-1] if name == TURNED else options)
            for name, (instruction, options) in WAYS.items()
        ]
        for (name, (_, options)), answer in zip(WAYS.items(), engine.answer(frame.image, tasks).answers, strict=True):
            right = isinstance(answer.result, Decided) and answer.result.choice == options[state]
            found[name].values.append(float(right))
    return {name: scores.summary() for name, scores in found.items()}


def examine_empty(engine: Answering) -> dict[str, dict[str, Any]]:
    """What is said of pictures that show nothing: boxes and their best score, the count, the way."""
    tasks: list[Task] = [
        Ground(), Ground(classes=("red cube",)), Count(),
        Decide(instruction="Is the way clear?", options=("clear", "blocked", "person")),
    ]  # fmt: skip
    told: dict[str, dict[str, Any]] = {}
    for name, picture in pictures.empty_pictures().items():
        everything, cube, count, way = (answer.result for answer in engine.answer(picture, tasks).answers)
        scores = [d.score for d in everything.detections] if isinstance(everything, Grounding) else []
        told[name] = {
            "boxes": len(_boxes(everything)),
            "best_score": max(scores, default=None),
            "red_cubes": len(_boxes(cube)),
            "count": count.count if isinstance(count, Counted) else None,
            "way": way.choice if isinstance(way, Decided) else None,
        }
    return told


def examine_the_rest(engine: Answering, number: int) -> dict[str, Any]:
    """Other words, on so many unchanged frames, and pictures that show nothing."""
    frames = list(strange_frames(AS_DRAWN, number))
    return {
        "words": examine_words(engine, frames),
        "ways": examine_ways(engine, frames),
        "empty": examine_empty(engine),
    }


def report_of(model: str, weights: str, frames: int) -> dict[str, Any]:
    """An empty report: name and fingerprint of the model, split and frames of a condition, no figures yet."""
    return {"model": model, "weights": weights, "split": SPLIT, "frames": frames, "conditions": {}}


def _boxes(result: Any) -> list[tuple[float, float, float, float]]:
    return [detection.box for detection in result.detections] if isinstance(result, Grounding) else []
