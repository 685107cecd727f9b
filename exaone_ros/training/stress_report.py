"""What `stress` found, on disk and in words: all of it for the documentation, what breaks for the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exaone_ros.errors import CheckpointError
from exaone_ros.training.measured import DIGITS, read_figures
from exaone_ros.training.page import replace_between

UNCHANGED = "unchanged"
"""The condition that the others are held against."""
FIGURES = {
    "ground_one_over_50": "one object", "list_f1": "every object, F1", "count_all": "count of all",
    "count_kind": "of a kind", "absent": "absent", "decide_way": "the way", "decide_pick": "pick",
}  # fmt: skip
"""What is shown of a condition, and under which heading."""
BEGIN, END = "<!-- stress: begin -->", "<!-- stress: end -->"


def read_stress(path: Path) -> dict[str, Any] | None:
    """What `stress --json` wrote; None where there is no such file.

    Raises:
        CheckpointError: the file holds something else, or was cut short.
    """
    found = read_figures(path)
    if not found:
        return None
    missing = [part for part in ("split", "conditions", "words", "ways", "empty") if part not in found]
    if not missing and UNCHANGED not in found["conditions"]:
        missing = [f"the condition {UNCHANGED!r}"]
    if missing:
        raise CheckpointError(
            f"{path} is no whole report of `stress`; measure again without --only, or delete it (missing: "
            f"{', '.join(missing)})"
        )
    return found


def write_into(page: Path, report: Mapping[str, Any]) -> None:
    """Put the tables between the markers of a page.

    Raises:
        ExaoneError: the page does not have the markers.
    """
    opening = (
        f"Checkpoint `{report['model']}` (weights `{report['weights'][:DIGITS]}`), {report['frames']} scenes of the "
        f"split '{report['split']}' under each condition; value ± half of the 95% interval."
    )
    replace_between(page, BEGIN, END, f"{opening}\n\n{markdown(report)}")


def breaking(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Condition -> the figures that are clearly worse there: their 95% interval ends below that of the unchanged."""
    unchanged = report["conditions"][UNCHANGED]
    found = {}
    for name, table in report["conditions"].items():
        worse = [figure for figure in table if figure in unchanged and table[figure]["high"] < unchanged[figure]["low"]]
        if worse:
            found[name] = worse
    return found


def brief(report: Mapping[str, Any]) -> str:
    """For the card: the conditions where something is clearly worse, the names of the others, words, and nothing."""
    worse = breaking(report)
    shown = {name: t for name, t in report["conditions"].items() if name in (UNCHANGED, *worse)}
    kept = [name for name in report["conditions"] if name not in shown]
    parts = [_conditions(shown)]
    if kept:
        parts.append(f"Not clearly worse in any of these: {'; '.join(kept)}.")
    return "\n\n".join([*parts, *_other_tables(report)])


def markdown(report: Mapping[str, Any]) -> str:
    """All tables of a report."""
    return "\n\n".join([_conditions(report["conditions"]), *_other_tables(report)])


def _conditions(conditions: Mapping[str, Any]) -> str:
    lines = ["| | " + " | ".join(FIGURES.values()) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for name, table in conditions.items():
        lines.append(f"| {name} | " + " | ".join(_cell(table.get(figure)) for figure in FIGURES) + " |")
    return "\n".join(lines)


def _other_tables(report: Mapping[str, Any]) -> list[str]:
    """Words, ways and pictures of nothing, where they were looked at."""
    tables = []
    if report.get("words"):
        lines = ["| an object is called | found | absent: nothing |", "|---|---|---|"]
        lines += [f"| {n} | {_cell(e['found'])} | {_cell(e['absent'])} |" for n, e in report["words"].items()]
        tables.append("\n".join(lines))
    if report.get("ways"):
        lines = ["| the way is asked about | right |", "|---|---|"]
        lines += [f"| {name} | {_cell(entry)} |" for name, entry in report["ways"].items()]
        tables.append("\n".join(lines))
    if report.get("empty"):
        lines = ["| a picture of nothing | boxes | best score | red cubes | count | way |", "|---" * 6 + "|"]
        for name, entry in report["empty"].items():
            best = "" if entry["best_score"] is None else f"{entry['best_score']:.2f}"
            cells = (name, entry["boxes"], best, entry["red_cubes"], entry["count"], entry["way"])
            lines.append(f"| {' | '.join(map(str, cells))} |")
        tables.append("\n".join(lines))
    return tables


def _cell(entry: Mapping[str, float | None] | None) -> str:
    """Empty where nothing could be asked."""
    if entry is None or entry["value"] is None or not entry["n"]:
        return ""
    return f"{entry['value']:.2f} ± {entry['interval']:.2f}"
