"""`python -m exaone_ros.training`: prerender, train, mtp, export, evaluate, calibration, acceptance, stress,
all.

On a CPU, train with `--threads 1` where the cores are shared with other work, with 2 where they are not, and with the
settings of glibc in docs/training.md, which halve the time of a step.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ended_by_signals, ends_with_its_reader
from exaone_ros.training import cli_making, cli_measuring
from exaone_ros.training.cli_arguments import parser

COMMANDS = {
    "prerender": cli_making.prerender,
    "train": cli_making.train,
    "mtp": cli_making.mtp,
    "export": cli_making.export,
    "evaluate": cli_measuring.evaluate,
    "calibration": cli_measuring.calibration,
    "acceptance": cli_measuring.acceptance,
    "stress": cli_measuring.stress,
    "all": cli_making.everything,
}
INTERRUPTED = 130
"""Exit status, as of a program that a Ctrl-C ended."""


@ends_with_its_reader
@ended_by_signals()  # whoever ends it loses nothing that it can save, and leaves no process behind
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser(__doc__).parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except ExaoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it can (prerender, train, all)", file=sys.stderr)
        return INTERRUPTED
    return 0
