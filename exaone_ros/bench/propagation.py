"""Boxes at camera rate between looks: IoU with the truth when they are held still, and when they are propagated.

    python -m exaone_ros.bench.propagation --seconds 8 --looks-hz 2 --latency-s 0.3

The simulated head sweeps over a table; looks say the truth of their image, but say it late, so that what is measured is
the propagation alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exaone_ros.geometry.tracks import BoxTracker, SeenBox
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.sim import score
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.sim.live import LiveSettings
from exaone_ros.sim.sampling import SceneOptions
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.vocabulary import name
from exaone_ros.sim.world import STEP_S, HeadMotion, World, render_snapshot
from exaone_ros.view.tally import percentiles

NS = 1_000_000_000


@dataclass(frozen=True)
class Motion:
    """Attributes: camera rate and size; looks per second; how late each answer is; length; seed; sweep of the head."""

    rate_hz: float = 30.0
    width: int = 640
    height: int = 480
    looks_hz: float = 2.0
    latency_s: float = 0.3
    seconds: float = 8.0
    seed: int = 1
    pan_rad: float = 0.25
    tilt_rad: float = 0.1
    period_s: float = 4.0


MOTIONS = (
    Motion(pan_rad=0.08, tilt_rad=0.03),
    Motion(),
    Motion(looks_hz=1.0, latency_s=0.6),
)
"""What `make bench` measures: a slow sweep, a quick one, and a slow model."""

HEAD = """\
| sweep to either side | looks | late by | held | propagated | over IoU 0.5 | ms per image p50 / p95 |
|---|---|---|---|---|---|---|"""


def rows(results: Sequence[dict[str, Any]]) -> list[str]:
    """A line of the page of benchmarks for each result of `measure`."""
    lines = []
    for result in results:
        motion, iou, half, cost = (result[key] for key in ("motion", "mean_iou", "over_half", "ms_per_image"))
        sweep = f"{np.degrees(motion['pan_rad']):.0f} degrees in {motion['period_s'] / 4:g} s"
        lines.append(
            f"| {sweep} | {motion['looks_hz']:g} Hz "
            f"| {motion['latency_s']:g} s | {iou['held']} | {iou['propagated']} "
            f"| {half['held']} / {half['propagated']} | {cost['p50']} / {cost['p95']} |"
        )
    return lines


def frames(motion: Motion) -> Iterator[LabelledFrame]:
    """The images of a sweeping head, at the camera's rate in simulated time."""
    options = SceneOptions(objects=(6, 9), person_share=0.0, obstacle_share=0.0, camera_jitter=0.0)
    settings = LiveSettings(width=motion.width, height=motion.height, seed=motion.seed, options=options)
    world = World(settings.scene(0), HeadMotion(motion.pan_rad, motion.tilt_rad, motion.period_s))
    with TabletopRenderer(motion.width, motion.height, shadows=False, samples=0) as renderer:
        for number in range(1, round(motion.seconds * motion.rate_hz) + 1):
            while world.time_s < number / motion.rate_hz:
                world.step(max(min(round((number / motion.rate_hz - world.time_s) / STEP_S), 5), 1))
            yield render_snapshot(renderer, world.snapshot())


def measure(motion: Motion) -> dict[str, Any]:
    """Mean IoU over all objects of all images after the first answer: an object without a box counts as 0."""
    tracker = BoxTracker(max_age_ns=2 * NS)
    held: Sequence[SeenBox] = ()
    waiting: list[tuple[float, int, list[SeenBox]]] = []
    looked_s = -np.inf
    overlaps: dict[str, list[float]] = {"held": [], "propagated": []}
    wrong = {"held": 0, "propagated": 0}
    costs_ms = []
    for number, frame in enumerate(frames(motion), start=1):
        now_s = number / motion.rate_hz
        stamp_ns = round(now_s * NS)
        started_s = time.perf_counter()
        tracker.on_image(stamp_ns, frame.image)
        costs_ms.append((time.perf_counter() - started_s) * 1e3)
        if now_s - looked_s >= 1 / motion.looks_hz - 1e-9:
            looked_s = now_s
            waiting.append((now_s + motion.latency_s, stamp_ns, seen_boxes(frame)))
        while waiting and waiting[0][0] <= now_s:
            _, look_ns, held = waiting.pop(0)
            started_s = time.perf_counter()
            tracker.on_look(look_ns, held)
            costs_ms[-1] += (time.perf_counter() - started_s) * 1e3
        if tracker.looked_ns is None:
            continue
        found = {
            "held": [(box.label, box.box) for box in held],
            "propagated": [(track.seen.label, track.box) for track in tracker.tracks()],
        }
        for how, boxes in found.items():
            best, false = scored(boxes, frame)
            overlaps[how] += best
            wrong[how] += false
    return {
        "mean_iou": {how: round(float(np.mean(values)), 3) for how, values in overlaps.items()},
        "over_half": {how: round(float(np.mean(np.array(values) >= 0.5)), 3) for how, values in overlaps.items()},
        "boxes_without_object": wrong,
        "objects_scored": len(overlaps["held"]),
        "dropped": tracker.dropped,
        "ms_per_image": percentiles(costs_ms),
        "motion": motion.__dict__,
    }


def seen_boxes(frame: LabelledFrame) -> list[SeenBox]:
    """What a look that makes no mistakes says of a frame."""
    return [SeenBox("objects", name(thing.shape, thing.colour), thing.box, 1.0) for thing in frame.objects]


def scored(boxes: Sequence[score.Labelled], frame: LabelledFrame) -> tuple[list[float], int]:
    """(IoU of each object that is no sliver, 0 without a box; number of boxes on no object of their label)."""
    truth = [(name(thing.shape, thing.colour), thing.box) for thing in frame.objects]
    pairs = score.match(boxes, truth)
    best = {j: overlap for _, j, overlap in pairs}
    return [
        best.get(j, 0.0)
        for j, thing in enumerate(frame.objects)
        if thing.visible_fraction >= score.MIN_VISIBLE_FRACTION and thing.visible_px >= score.MIN_VISIBLE_PX
    ], len(boxes) - len(pairs)


@ends_with_its_reader
def main() -> int:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench.propagation")
    for field, default in Motion().__dict__.items():
        parser.add_argument(f"--{field.replace('_', '-')}", type=type(default), default=default)
    sys.stdout.write(json.dumps(measure(Motion(**vars(parser.parse_args())))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
