"""Run the tests: `python3 scripts/test.py [LANE...]`, every lane without a name. Does its own set-up.

Ends with a table of the lanes and a last line `N passed, N failed`; the exit status is 0 only where nothing failed and
every lane ran some test, but for those that a slow machine had no time for: they are named above the last line. `lint`
and `full` have to be run. Where a ROS 2 is sourced the lanes run on it, and the ones that install others are left out.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from provision import lanes
from provision.environment import Runtime
from provision.host import find_sourced_ros
from provision.lanes import Outcome, OutOfTime
from provision.report import ProvisionError, Report
from provision.sequence import run_in_turn, summary

from setup import TEST_GROUPS, prepare, told


@dataclass(frozen=True)
class Lane:
    """A part of the test run.

    Attributes:
        title: what it proves.
        run: does it, set-up included.
        wheels_only: it makes no sense on a sourced ROS 2.
    """

    title: str
    run: Callable[[Report], Outcome]
    wheels_only: bool = False


def full(report: Report) -> Runtime:
    """The Python with everything: the sourced ROS 2, or Jazzy."""
    return prepare("jazzy", TEST_GROUPS, report)


def kilted(report: Report) -> Outcome:
    """The second distribution in a Python without torch, less what no ROS takes part in and other lanes show."""
    runtime = prepare("kilted", ["test"], report)
    chosen = ["-m", "not slow and not installed", *(f"--ignore={place}" for place in lanes.OF_ANY_ROS)]
    return lanes.pytest("kilted", runtime, *chosen, require=lanes.SMALL_MODULES)


LANES = {
    "lint": Lane("ruff and mypy", lambda report: lanes.lint(full(report))),
    "full": Lane("all tests (Jazzy, numpy 2)", lambda report: lanes.pytest("full", full(report))),
    "colcon": Lane("colcon build and test", lambda report: lanes.colcon(full(report), report)),
    "numpy1": Lane("numpy 1.26", lambda report: lanes.with_numpy_1(full(report), report), wheels_only=True),
    "kilted": Lane("ROS 2 Kilted", kilted, wheels_only=True),
    "tensorrt-rtx": Lane(
        "TensorRT-RTX parses and builds the graphs", lambda report: lanes.tensorrt_rtx(full(report), report)
    ),
}

NEEDED = ("lint", "full")
"""Without these a run proves next to nothing, however little time there was."""


def run_lane(lane: Lane, report: Report) -> Outcome:
    """Run one lane; whatever breaks is its outcome, so that the others still run. Only `OutOfTime` goes through."""
    try:
        return lane.run(report)
    except OutOfTime:
        raise
    except ProvisionError as error:
        print(error, file=sys.stderr)
        return Outcome(0, 1, note="its set-up failed")
    except Exception:  # a fault of the test run itself: shown, counted, and no reason to hide the other lanes
        traceback.print_exc()
        return Outcome(0, 1, note="the lane itself broke")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lanes", nargs="*", metavar="LANE", help=f"any of {', '.join(LANES)}")
    options = parser.parse_args()
    unknown = [name for name in options.lanes if name not in LANES]
    if unknown:
        parser.error(f"no lane is called {', '.join(unknown)}; there are {', '.join(LANES)}")
    sourced = told(lambda _: find_sourced_ros()) is not None
    left_out = [name for name, lane in LANES.items() if sourced and lane.wheels_only and not options.lanes]
    chosen = options.lanes or [name for name in LANES if name not in left_out]

    rows = run_in_turn(
        {name: partial(told, partial(run_lane, LANES[name])) for name in chosen},
        {name: LANES[name].title for name in chosen},
    )
    text, status = summary(rows, NEEDED)
    if left_out:
        print(f"\nLeft out, as a ROS 2 is sourced: {', '.join(left_out)}")
    print(text)
    sys.exit(status)


if __name__ == "__main__":
    main()
