"""`python -m exaone_ros.action.recorder`: look at a dataset, repair it after a kill, convert a bag."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from exaone_ros.action.recorder import bag, reader, writer
from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ends_with_its_reader


@ends_with_its_reader
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.action.recorder", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="what a dataset holds")
    show.add_argument("root", type=Path)
    recover = commands.add_parser("recover", help="finish what a kill interrupted")
    recover.add_argument("root", type=Path)
    convert = commands.add_parser("from-bag", help="one episode out of a ROS 2 bag (db3 or MCAP)")
    bag.add_arguments(convert)
    options = parser.parse_args(arguments)
    try:
        if options.command == "show":
            _show(reader.DatasetReader(options.root))
        elif options.command == "recover":
            print(f"put {writer.recover(options.root)} episode(s) in place")
        else:
            index, frames = bag.convert(options)
            print(f"wrote episode {index} of {frames} frames to {options.root}")
    except ExaoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _show(dataset: reader.DatasetReader) -> None:
    print(f"{dataset.root}: {dataset.spec.embodiment}, {len(dataset)} episodes at {dataset.fps:g} Hz")
    for index in range(len(dataset)):
        episode = dataset.episode(index)
        print(f"  {index:4d}  {len(episode.action):6d} frames  {episode.tasks[0]}")


if __name__ == "__main__":
    sys.exit(main())
