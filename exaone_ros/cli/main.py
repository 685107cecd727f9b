"""`exaone COMMAND`: dispatches, and turns the package's errors into one line and an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from exaone_ros.cli import compile as compile_command
from exaone_ros.cli import doctor as doctor_command
from exaone_ros.cli import report as report_command
from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ends_with_its_reader

INTERRUPTED = 130  # what shells say of a program that Ctrl-C ended
COMMANDS = {"compile": compile_command, "doctor": doctor_command, "report": report_command}


@ends_with_its_reader
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="exaone", description="EXAONE 4.5 on robots.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    options = parser.parse_args(arguments)
    try:
        return COMMANDS[options.command].run(options)
    except ExaoneError as error:
        print(f"exaone {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"exaone {options.command}: interrupted; no engine was left half built", file=sys.stderr)
        return INTERRUPTED


def compile_main() -> int:
    """`ros2 run exaone_ros compile`."""
    return main(["compile", *sys.argv[1:]])


def doctor_main() -> int:
    """`ros2 run exaone_ros doctor`."""
    return main(["doctor", *sys.argv[1:]])


def report_main() -> int:
    """`ros2 run exaone_ros report`."""
    return main(["report", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
