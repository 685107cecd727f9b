"""What the bundled checkpoint must reach and what it aims at, held against the figures of `evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Tables = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Column -> figure -> value, interval, low, high, n; what `evaluate` measures. Older files have no low and high."""

MAIN = "mujoco"
IOU = "ground_one_iou"
CONDITIONS = ("320x240", "640x360", "1280x720", "no shadows", "ambient only", "fov 60-75")


@dataclass(frozen=True)
class Verdict:
    """One figure against its bounds.

    Attributes:
        what: in words.
        value: measured.
        interval: half of its 95% interval; NaN where it is a difference or a quotient of figures.
        least, target: bounds; NaN = none.
        above: bounds are lower ones (else upper ones).
        low, high: of its 95% interval; NaN where only the half is known, which is then taken on either side.
    """

    what: str
    value: float
    interval: float
    least: float
    target: float
    above: bool = True
    low: float = math.nan
    high: float = math.nan

    @property
    def ends(self) -> tuple[float, float]:
        """Of the 95% interval; NaN where nothing is known of it."""
        if math.isnan(self.low) or math.isnan(self.high):
            return self.value - self.interval, self.value + self.interval
        return self.low, self.high

    def keeps(self, bound: float) -> bool | None:
        """Whether the value keeps a bound; None without one."""
        if math.isnan(bound):
            return None
        return bool(self.value >= bound if self.above else self.value <= bound)  # a figure may be numpy's

    def words(self, bound: float) -> str:
        """For the table: the bound, "yes" or "no", and "unsure" where it lies within the interval."""
        kept = self.keeps(bound)
        if kept is None:
            return ""
        low, high = self.ends
        unsure = low <= bound <= high
        return f"{bound:g}: {'yes' if kept else 'no'}{', unsure' if unsure else ''}"


DIRECT = (
    ("one named object, mean IoU", IOU, 0.80, 0.90),
    ("one named object, share over 0.5", "ground_one_over_50", 0.93, 0.99),
    ("every object, F1 at IoU 0.5", "list_f1", 0.88, 0.97),
    ("count all, exact", "count_all", 0.93, 0.99),
    ("count by class, exact", "count_kind", 0.88, 0.97),
    ("absent object answered with nothing", "absent", 0.95, 0.99),
    ("decision: the way", "decide_way", 0.95, 0.99),
    ("decision: pick what is named", "decide_pick", 0.95, 0.99),
    ("decision: pick by relation or side", "decide_relation", 0.92, 0.98),
    ("relation, box over 0.5", "ground_relation_over_50", 0.92, 0.98),
)
"""In words, figure of the main column, at least, target."""


def verdicts(tables: Tables) -> list[Verdict]:
    """Hold what was measured against the bounds; what was not measured is left out."""
    main = tables.get(MAIN, {})
    found = [_direct(what, main[figure], least, target) for what, figure, least, target in DIRECT if figure in main]
    korean = tables.get("korean", {})
    behind = [main[figure]["value"] - korean[figure]["value"] for figure in main if figure in korean]
    if behind:
        found.append(Verdict("Korean, most that a figure is behind English", max(behind), math.nan, 0.02, 0.01, False))
    worse = [
        main[IOU]["value"] - tables[c][IOU]["value"] for c in CONDITIONS if IOU in tables.get(c, {}) and IOU in main
    ]
    if worse:
        what = "other sizes, light and views, most that the IoU is behind"
        found.append(Verdict(what, max(worse), math.nan, 0.08, 0.03, False))
    heldout = tables.get("held-out pairs", {})
    if IOU in heldout and main.get(IOU, {}).get("value", 0.0) > 0:  # of nothing there is no share
        value = heldout[IOU]["value"] / main[IOU]["value"]
        found.append(Verdict("held-out pairs, IoU as a share of the seen", value, math.nan, math.nan, 0.80))
    return found


def _direct(what: str, entry: Mapping[str, float], least: float, target: float) -> Verdict:
    low, high = (entry.get(end, math.nan) for end in ("low", "high"))
    return Verdict(what, entry["value"], entry["interval"], least, target, low=low, high=high)


def markdown(found: list[Verdict]) -> str:
    """The verdicts as a Markdown table."""
    lines = ["| | measured | at least | target |", "|---|---|---|---|"]
    for verdict in found:
        if not math.isnan(verdict.low):
            interval = f" ({verdict.low:.3f} to {verdict.high:.3f})"
        else:
            interval = "" if math.isnan(verdict.interval) else f" ± {verdict.interval:.3f}"
        bounds = f"{verdict.words(verdict.least)} | {verdict.words(verdict.target)}"
        lines.append(f"| {verdict.what} | {verdict.value:.3f}{interval} | {bounds} |")
    return "\n".join(lines)


def as_json(found: list[Verdict]) -> list[dict[str, Any]]:
    """The verdicts for a report; what is not there is None."""
    rows = []
    for verdict in found:
        row = {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in asdict(verdict).items()}
        rows.append(row | {"at_least": verdict.keeps(verdict.least), "reached": verdict.keeps(verdict.target)})
    return rows


def compared(tables: Tables, shipped: Tables, doubt: str = "") -> str:
    """Whether measuring again gave the shipped figures, in words; figures are compared as the card shows them.

    Args:
        tables: measured.
        shipped: that came with the model.
        doubt: why they may not be those of this model (see `measured.doubt`); "" = they are.
    """
    same, differ = 0, []
    for column, table in tables.items():
        for figure, entry in table.items():
            was = shipped.get(column, {}).get(figure)
            if was is None:
                continue
            if f"{was['value']:.3f}" == f"{entry['value']:.3f}":
                same += 1
            else:
                differ.append(f"{column} {figure} {entry['value']:.3f} (was {was['value']:.3f})")
    text = f"{same} of {same + len(differ)} figures are those that come with the model"
    if doubt:
        text = f"{doubt}: {same} of {same + len(differ)} figures are the same as there"
    return text + (f"; others: {'; '.join(differ)}" if differ else "")
