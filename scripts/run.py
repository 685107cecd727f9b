"""Run this repository's code with everything it needs: `python3 scripts/run.py -- -m exaone_ros.nodes.perception`.

What follows `--` goes to a Python that has ROS 2, the interface packages and the dependencies; the set-up is done first
where it is missing. The process is replaced, so signals and the exit status are those of the code.
"""

from __future__ import annotations

import argparse
import os

from setup import TEST_GROUPS, add_arguments, prepare, told


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("arguments", nargs="+", help="arguments of Python, after --")
    options = parser.parse_args()
    path = None if options.venv is None else options.venv.resolve()
    groups = TEST_GROUPS if options.test else ()
    runtime = told(lambda report: prepare(options.ros, groups, report, path))
    os.execve(runtime.python, [str(runtime.python), *options.arguments], dict(runtime.variables))


if __name__ == "__main__":
    main()
