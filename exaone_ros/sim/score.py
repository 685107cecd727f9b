"""How right an answer is: the one place that compares answers with the truth of a frame.

Used by evaluation, demo and closed-loop tests, so that all of them mean the same by their figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from exaone_ros.sim.frame import Box

Labelled = tuple[str, Box]

MIN_VISIBLE_PX = 150
MIN_VISIBLE_FRACTION = 0.35
"""At 640x480. Less of an object is a sliver: neither answer about it is wrong, so it is not scored."""


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2), 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def match(found: Sequence[Labelled], truth: Sequence[Labelled]) -> list[tuple[int, int, float]]:
    """Pair found boxes with true boxes of the same label, best overlap first, each used once.

    Returns:
        (index in found, index in truth, IoU > 0) of each pair.
    """
    candidates = [
        (iou(f_box, t_box), i, j)
        for i, (f_label, f_box) in enumerate(found)
        for j, (t_label, t_box) in enumerate(truth)
        if f_label == t_label
    ]
    pairs: list[tuple[int, int, float]] = []
    used_found: set[int] = set()
    used_truth: set[int] = set()
    for overlap, i, j in sorted(candidates, key=lambda c: -c[0]):
        if overlap > 0 and i not in used_found and j not in used_truth:
            used_found.add(i)
            used_truth.add(j)
            pairs.append((i, j, overlap))
    return pairs


def f1(found: int, truth: int, hits: int) -> float:
    """F1 from the numbers of found boxes, true boxes and hits; 1 where there was nothing to find and nothing found."""
    return 1.0 if found + truth == 0 else 2 * hits / (found + truth)
