"""Make this machine ready to run the nodes, or (--test) to test them. Run it at any time: what is done is not redone.

Where a ROS 2 is sourced it is used; elsewhere ROS 2 comes from the PyPI wheels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from provision import host
from provision.environment import REQUIREMENTS, ROOT, Runtime, running_variables
from provision.interfaces import install_interfaces
from provision.report import ProvisionError, Report
from provision.stamp import exclusive
from provision.wheels import DISTRIBUTIONS, WheelEnvironment
from provision.workspace import install_on_ros

# Requirement files that tests, linters and benchmarks add to what the nodes need.
TEST_GROUPS = ("test", "record", "reference", "server", "lint")

_Result = TypeVar("_Result")


def install_wheels(distribution: str, path: Path, groups: Sequence[str], report: Report) -> Runtime:
    """Make a virtual environment of ROS 2 wheels with the interface packages in it.

    Args:
        distribution: one of `DISTRIBUTIONS`.
        path: folder of the environment.
        groups: requirement files beside what the nodes need, without their ending.
        report: where progress goes.
    """
    host.check_wheels_fit()
    host.install_debian_packages(host.debian_packages_for_wheels(), report)
    files = [REQUIREMENTS / f"{name}.txt" for name in (f"ros-{distribution}", "build", "system", "runtime", *groups)]
    environment = WheelEnvironment(path, distribution, files)
    with exclusive(path):
        environment.install(report)
        install_interfaces(environment, ROOT / "test" / "interfaces" / "vision_msgs", report)
        install_interfaces(environment, ROOT / "exaone_interfaces", report)
    return Runtime(distribution, environment.python, running_variables(environment.variables()), path)


def prepare(distribution: str, groups: Sequence[str], report: Report, path: Path | None = None) -> Runtime:
    """Make a Python ready that runs the nodes: on the sourced ROS 2, or else on wheels of `distribution`."""
    ros = host.find_sourced_ros()
    if "test" in groups:
        host.try_debian_packages(host.debian_packages_for_tests(), report)
    if ros is None:
        return install_wheels(distribution, path or ROOT / f".venv-{distribution}", groups, report)
    host.install_debian_packages(host.debian_packages_for_ros(ros), report)
    return install_on_ros(ros, path or ROOT / f".venv-ros-{ros.distribution}", groups, report)


def told(work: Callable[[Report], _Result]) -> _Result:
    """Do work that reports; a failure is told without a traceback and ends the program."""
    report = Report(ROOT / ".venv-setup.log")
    try:
        host.check_python()
        return work(report)
    except ProvisionError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    finally:
        report.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The choices that every script here offers."""
    parser.add_argument("--ros", choices=DISTRIBUTIONS, default="jazzy", help="ROS 2 to install where none is sourced")
    parser.add_argument("--venv", type=Path, help="folder of the environment (default: .venv-... in the repository)")
    parser.add_argument(
        "--test", action="store_true", help="also what tests need: pytest, linters, torch, transformers"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_arguments(parser)
    options = parser.parse_args()
    started = time.monotonic()
    path = None if options.venv is None else options.venv.resolve()
    groups = TEST_GROUPS if options.test else ()
    runtime = told(lambda report: prepare(options.ros, groups, report, path))
    took = time.monotonic() - started
    print(f"Ready in {took:.1f} s: ROS 2 {runtime.distribution.capitalize()}, {runtime.python}")


if __name__ == "__main__":
    main()
