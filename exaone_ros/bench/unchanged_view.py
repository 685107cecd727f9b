"""What it does to answers to skip the encoding of a view that has not changed (`engine/unchanged.py`).

`python -m exaone_ros.bench.unchanged_view` shows the engine frames of the simulated camera and the same frames with a
known change: noise and brightness, which should be skipped, and an object that has moved or gone, which should not. For
each threshold it says how often the frame would have been skipped, and how many of the three answers would then have
been others than those on the frame itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.bench.worker import questions
from exaone_ros.engine import Engine
from exaone_ros.engine.unchanged import difference, signature
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.share import share_path
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.training.splits import frame_seed

THRESHOLDS = (2.0, 4.0, 8.0, 16.0)
Change = Callable[[LabelledFrame, np.random.Generator], NDArray[np.uint8]]


def noise(sigma: float) -> Change:
    """A sensor's noise of so many grey levels."""

    def change(frame: LabelledFrame, rng: np.random.Generator) -> NDArray[np.uint8]:
        noisy = frame.image + rng.normal(0, sigma, frame.image.shape)
        return np.clip(noisy, 0, 255).round().astype(np.uint8)

    return change


def brighter(levels: int) -> Change:
    """Exposure that changes by so many grey levels."""

    def change(frame: LabelledFrame, rng: np.random.Generator) -> NDArray[np.uint8]:
        return np.clip(frame.image.astype(np.int16) + levels, 0, 255).astype(np.uint8)

    return change


def moved(pixels: int) -> Change:
    """One object further right by so many pixels, with a sensor's noise; where there is none, only the noise."""

    def change(frame: LabelledFrame, rng: np.random.Generator) -> NDArray[np.uint8]:
        mask, without = _removed(frame, rng)
        there = np.roll(mask, pixels, axis=1)
        there[:, :pixels] = False
        image = without.copy()
        image[there] = np.roll(frame.image, pixels, axis=1)[there]
        return _with_noise(image, rng)

    return change


def removed(frame: LabelledFrame, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One object gone, what is behind it painted in."""
    return _with_noise(_removed(frame, rng)[1], rng)


CHANGES: dict[str, Change] = {
    "noise of 2 grey levels": noise(2.0),
    "noise of 5 grey levels": noise(5.0),
    "brighter by 3": brighter(3),
    "object moved by 1 px": moved(1),
    "object moved by 2 px": moved(2),
    "object moved by 4 px": moved(4),
    "object moved by 8 px": moved(8),
    "object gone": removed,
}


def measure(model: Path, frames: list[LabelledFrame], threads: int) -> dict[str, Any]:
    """For each change and threshold: share of frames skipped, and of all answers those that are others because of it.

    Returns:
        change -> {"threshold": {"skipped", "answers_changed"}, "differs": share of answers that the change itself
        alters, whether skipped or not}.
    """
    differences: dict[str, list[float]] = defaultdict(list)
    altered: dict[str, list[float]] = defaultdict(list)
    tasks = questions()
    with Engine.open(model, threads=threads) as engine:
        for number, frame in enumerate(frames):
            before = [answer.text for answer in engine.answer(frame.image, tasks).answers]
            seen = signature(frame.image)
            for name, change in CHANGES.items():
                image = change(frame, np.random.default_rng(number))
                after = [answer.text for answer in engine.answer(image, tasks).answers]
                differences[name].append(difference(seen, signature(image)))
                altered[name].append(float(np.mean([x != y for x, y in zip(before, after, strict=True)])))
    report: dict[str, Any] = {}
    for name in CHANGES:
        levels, share = np.array(differences[name]), np.array(altered[name])
        report[name] = {"differs": round(float(share.mean()), 3)} | {
            f"{threshold:g}": {
                "skipped": round(float((levels <= threshold).mean()), 3),
                "answers_changed": round(float((share * (levels <= threshold)).mean()), 3),
            }
            for threshold in THRESHOLDS
        }
    return report


def markdown(report: dict[str, Any]) -> str:
    """A table: share of frames skipped / share of all answers that are others because of it; pure."""
    lines = [
        "| change | alters answers | " + " | ".join(f"threshold {t:g}" for t in THRESHOLDS) + " |",
        "|---" * (2 + len(THRESHOLDS)) + "|",
    ]
    for name, entry in report.items():
        cells = [f"{entry[f'{t:g}']['skipped']:.2f} / {entry[f'{t:g}']['answers_changed']:.2f}" for t in THRESHOLDS]
        lines.append(f"| {name} | {entry['differs']:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _removed(frame: LabelledFrame, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Where one object is, and the frame without it."""
    mask = frame.instance == rng.integers(max(1, len(frame.objects)))
    wider = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    return mask, cv2.inpaint(frame.image, wider, 3, cv2.INPAINT_TELEA)


def _with_noise(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.clip(image + rng.normal(0, 2.0, image.shape), 0, 255).round().astype(np.uint8)


@ends_with_its_reader
def main() -> int:
    """Print the table; returns 0."""
    from exaone_ros.sim.tabletop import TabletopRenderer

    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench.unchanged_view")
    parser.add_argument("--model", type=Path, help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=50, help="of the split 'validation'")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    with TabletopRenderer(640, 480) as renderer:
        frames = [renderer.render(frame_seed("validation", i)) for i in range(arguments.frames)]
    report = measure(arguments.model or share_path("models/exaone4_5-tabletop-tiny"), frames, arguments.threads)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
