"""Plots as inline SVG: no script, no font, no file beside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 760, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 28, 36
COLOURS = ("#4285f4", "#34a853", "#ea4335", "#ab47bc", "#00acc1", "#fbbc05")
MAX_POINTS = 2000
"""Of one series; more are thinned out evenly, the largest of each bunch kept."""

Points = Sequence[tuple[float, float]]


def scatter(title: str, x_label: str, y_label: str, series: Mapping[str, Points]) -> str:
    """Points over time. Empty series are left out; without any point the chart says so."""
    shown = {name: thinned(points) for name, points in series.items() if len(points)}
    xs = [x for points in shown.values() for x, _ in points]
    ys = [y for points in shown.values() for _, y in points]
    parts = [_head(title)]
    if not xs:
        parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">nothing recorded</text></svg>')
        return "".join(parts)
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(0.0, max(ys))
    x_range, y_range = (x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1])
    for x in x_ticks:
        at = _across(x, x_range)
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    for y in y_ticks:
        at = _down(y, y_range)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="4" y="{TOP - 8}">{escape(y_label)}</text>')
    for number, (name, points) in enumerate(shown.items()):
        colour = COLOURS[number % len(COLOURS)]
        dots = "".join(
            f'<circle cx="{_across(x, x_range):.1f}" cy="{_down(y, y_range):.1f}" r="2"/>' for x, y in points
        )
        parts.append(f'<g fill="{colour}" fill-opacity="0.7">{dots}</g>')
        parts.append(f'<text x="{LEFT + 150 * number}" y="{HEIGHT - 4}" fill="{colour}">{escape(name)}</text>')
    return "".join(parts) + "</svg>"


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    if not high > low:
        high = low + 1.0
    raw = (high - low) / about
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = int(np.floor(low / step + 1e-9)), int(np.ceil(high / step - 1e-9))
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def thinned(points: Points) -> Points:
    """At most about MAX_POINTS of them."""
    size = -(-len(points) // MAX_POINTS)
    if size <= 1:
        return points
    return [max(points[i : i + size], key=lambda point: point[1]) for i in range(0, len(points), size)]


def _head(title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
    )


def _across(x: float, span: tuple[float, float]) -> float:
    return LEFT + (x - span[0]) / (span[1] - span[0]) * (WIDTH - LEFT - RIGHT)


def _down(y: float, span: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (y - span[0]) / (span[1] - span[0]) * (HEIGHT - TOP - BOTTOM)
