"""Adds up how right, how fast and how fresh the answers of a run were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.sim import score, vocabulary


@dataclass(frozen=True)
class TrueObject:
    """One entry of the truth: class name as published ("red cube", "person"), box in pixels, visible fraction 0..1."""

    label: str
    box: tuple[float, float, float, float]
    visible_fraction: float = 1.0

    @property
    def sliver(self) -> bool:
        """Too little to be seen to be scored (see `score.MIN_VISIBLE_FRACTION`)."""
        x1, y1, x2, y2 = self.box
        return self.visible_fraction < score.MIN_VISIBLE_FRACTION or (x2 - x1) * (y2 - y1) < score.MIN_VISIBLE_PX

    @property
    def kind(self) -> tuple[str | None, str | None] | None:
        """(shape, colour), or None for a person or an obstacle."""
        return vocabulary.parse(self.label)


@dataclass
class Tally:
    """Collects answers with their truth; `summary()` gives the figures. Not thread-safe."""

    overlaps: list[float] = field(default_factory=list)
    found: int = 0
    true: int = 0
    hits: int = 0
    counts: list[bool] = field(default_factory=list)
    decisions: list[bool] = field(default_factory=list)
    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def detections(self, found: Sequence[score.Labelled], truth: Sequence[TrueObject]) -> None:
        """Score a list of everything. Slivers may be listed or not; they count neither way."""
        objects = [thing for thing in truth if thing.kind is not None]
        pairs = score.match(found, [(thing.label, thing.box) for thing in objects])
        best = {j: overlap for _, j, overlap in pairs if not objects[j].sliver}
        on_slivers = sum(objects[j].sliver for _, j, _ in pairs)
        scored = [j for j, thing in enumerate(objects) if not thing.sliver]
        self.overlaps += [best.get(j, 0.0) for j in scored]
        self.found += len(found) - on_slivers
        self.true += len(scored)
        self.hits += sum(overlap >= 0.5 for overlap in best.values())

    def count(self, label: str, number: int, truth: Sequence[TrueObject]) -> None:
        """Score a count; not scored where the label is unknown or a sliver makes the truth debatable."""
        asked = vocabulary.parse(label)
        if asked is None:
            return
        of_kind = [
            thing
            for thing in truth
            if thing.kind is not None and all(a in (None, k) for a, k in zip(asked, thing.kind, strict=True))
        ]
        if not any(thing.sliver for thing in of_kind):
            self.counts.append(number == len(of_kind))

    def decision(self, choice: str, truth: Sequence[TrueObject]) -> None:
        """Score an answer to whether the way is clear: person before blocked before clear."""
        labels = {thing.label for thing in truth}
        right = "person" if vocabulary.PERSON in labels else "blocked" if vocabulary.OBSTACLE in labels else "clear"
        self.decisions.append(choice == right)

    def latency(self, stage: str, milliseconds: float) -> None:
        """Note how long a stage took for one answer."""
        self.latencies_ms[stage].append(milliseconds)

    def summary(self) -> dict[str, Any]:
        """Mean IoU (0 for a missed object), F1 at IoU 0.5 with the right label, accuracies (None where nothing was
        scored) and latency percentiles in milliseconds."""

        def mean(values: Sequence[float]) -> float | None:
            return round(float(np.mean(values)), 4) if len(values) else None

        return {
            "mean_iou": mean(self.overlaps),
            "f1_50": round(score.f1(self.found, self.true, self.hits), 4) if self.true + self.found else None,
            "count_accuracy": mean(self.counts),
            "decision_accuracy": mean(self.decisions),
            "scored": {"objects": self.true, "counts": len(self.counts), "decisions": len(self.decisions)},
            "latency_ms": {stage: percentiles(values) for stage, values in sorted(self.latencies_ms.items())},
        }


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """Median and 95th percentile, rounded to 0.01."""
    return {"p50": round(float(np.percentile(values, 50)), 2), "p95": round(float(np.percentile(values, 95)), 2)}
