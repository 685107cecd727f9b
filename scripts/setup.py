"""Make this machine ready: `python3 scripts/setup.py [--test] [--ros jazzy|kilted]`. Run it again at any time; what is done is not redone."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from provision import host
from provision.interfaces import install_interfaces
from provision.report import ProvisionError, Report
from provision.stamp import exclusive
from provision.wheels import DISTRIBUTIONS, WheelEnvironment

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"


def install_wheels(path: Path, distribution: str, groups: list[str], report: Report) -> WheelEnvironment:
    """Make a virtual environment of ROS 2 wheels with both interface packages in it."""
    host.check_wheels_fit()
    host.install_debian_packages(host.debian_packages_for_wheels(), report)
    files = [REQUIREMENTS / f"{name}.txt" for name in (f"ros-{distribution}", "build", "runtime", *groups)]
    environment = WheelEnvironment(path, distribution, files)
    with exclusive(path):
        environment.install(report)
        install_interfaces(environment, ROOT / "test" / "interfaces" / "vision_msgs", report)
        install_interfaces(environment, ROOT / "exaone_interfaces", report)
    return environment


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--ros",
        choices=DISTRIBUTIONS,
        default="jazzy",
        help="which ROS 2 to install where none is sourced (default: jazzy)",
    )
    parser.add_argument(
        "--venv", type=Path, help="folder of the environment (default: .venv-<distribution> in the repository)"
    )
    parser.add_argument(
        "--test",
        action="store_true",
        help="also install what the tests, the linters and the reference need (torch, transformers)",
    )
    options = parser.parse_args()
    started = time.monotonic()
    path = (options.venv or ROOT / f".venv-{options.ros}").resolve()
    report = Report(path.with_name(path.name + ".log"))
    try:
        host.check_python()
        environment = install_wheels(path, options.ros, ["test", "reference", "lint"] if options.test else [], report)
    except ProvisionError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        report.close()
    print(f"Ready in {time.monotonic() - started:.1f} s: {environment.python}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
