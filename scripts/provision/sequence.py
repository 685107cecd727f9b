"""One lane after the other within the time of a run, and what is said of them at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from provision import lanes
from provision.lanes import Outcome, OutOfTime

LAST_START_S = 3000.0
"""No lane begins later than this after the first: it would hardly come to its end."""

WHOLE_S = 5100.0
"""Every lane has ended this long after the first began: 85 minutes, of 90 that continuous integration may give. What
installs and builds has no limit of its own."""

Row = tuple[str, Outcome, float]
"""Name of a lane, what it found, seconds that it took."""


def run_in_turn(
    chosen: Mapping[str, Callable[[], Outcome]], titles: Mapping[str, str], clock: Callable[[], float] = time.monotonic
) -> list[Row]:
    """Run lanes, each with what is left of the time.

    Args:
        chosen: name -> what runs it; whatever breaks in there is an outcome, but for `OutOfTime`.
        titles: name -> what the lane proves.
        clock: seconds.
    """
    rows: list[Row] = []
    began = clock()
    lanes.end_by(began + WHOLE_S)
    for name, run in chosen.items():
        print(f"\n=== {name}: {titles[name]}", flush=True)
        started = clock()
        after = f"{started - began:.0f} s were over"
        if started - began > LAST_START_S:
            outcome = Outcome(0, 0, note=f"not run: {after}", out_of_time=True)
        else:
            try:
                outcome = run()
            except OutOfTime:
                note = f"not finished: it began when {after}, and all lanes have {WHOLE_S:.0f} s"
                outcome = Outcome(0, 0, note=note, out_of_time=True)
        rows.append((name, outcome, clock() - started))
    return rows


def summary(rows: Sequence[Row], needed: Collection[str] = ()) -> tuple[str, int]:
    """The table of the lanes, what was left out, and the sum as the last line; with the exit status.

    A lane for which there was no time is no failure of the tests: a slow machine is not a broken package. It is said
    above the sum. Where there was no time for a lane that is needed, or for any test, the run has failed.
    """
    lines = [f"\n{'lane':<14}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for name, outcome, took in rows:
        counts = f"{outcome.passed:>8}{outcome.failed:>8}{outcome.skipped:>9}"
        lines.append(f"{name:<14}{counts}{took:>9.0f}  {outcome.note}".rstrip())
    passed, failed = sum(row[1].passed for row in rows), sum(row[1].failed for row in rows)
    if late := [name for name, outcome, _ in rows if outcome.out_of_time]:
        words = " ".join(late)
        lines.append(f'\nNOT TESTED for lack of time: {", ".join(late)}; `make test ARGS="{words}"` runs the rest.')
    lines.append(f"\n{passed} passed, {failed} failed")
    proves_nothing = late and (not passed or not set(late).isdisjoint(needed))
    return "\n".join(lines), 1 if failed or proves_nothing else 0
