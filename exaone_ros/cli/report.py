"""Write an HTML report of a recorded run: pictures, accuracy where the bag has the truth, latency plots.

The report is one file; it needs no network and runs no script.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from exaone_ros.errors import ExaoneError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `exaone report`."""
    parser.add_argument("bag", type=Path, help="directory of a bag (MCAP or SQLite)")
    parser.add_argument("--out", type=Path, help="HTML file (default: report.html beside the bag)")
    parser.add_argument("--pictures", type=int, default=12, help="annotated pictures in it (default 12)")


def run(options: argparse.Namespace) -> int:
    """Write the report.

    Raises:
        ExaoneError: the bag cannot be read, holds nothing to report, or the file cannot be written.
    """
    from exaone_ros.view.report.page import page
    from exaone_ros.view.report.run import read_run

    if not 0 <= options.pictures <= 200:
        raise ExaoneError(f"--pictures is {options.pictures}; expected 0 to 200")
    bag = options.bag if options.bag.is_dir() else options.bag.parent
    out: Path = options.out or bag.parent / "report.html"
    text = page(read_run(options.bag), options.pictures)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExaoneError(f"the report cannot be written to '{out}': {error}; choose another --out") from error
    print(f"written to {out}")
    return 0
