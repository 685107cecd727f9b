"""What every test run shares: its own ROS domain, Fast DDS settings, and no process left behind.

A test file that needs a module which this Python lacks (torch on the small lanes, rclpy without ROS) is not collected,
and the header says so. A lane that must have a module names it in EXAONE_TEST_REQUIRE: there, its absence is an error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.domain import claim_domain
from support.imports import needed_modules
from support.leftovers import MARK, end_leftovers

ROOT = Path(__file__).resolve().parent.parent
ROS_MODULES = {"ament_index_python", "exaone_interfaces", "rclpy", "sensor_msgs", "std_msgs", "vision_msgs"}
OPTIONAL_MODULES = {
    "av",
    "mujoco",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "rich",
    "rosbags",
    "torch",
    "transformers",
    *ROS_MODULES,
}

if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import HealthCheck, settings

    # By default an example that takes more than 200 ms fails, and one that is drawn slowly: on a loaded machine that is
    # any of them.
    settings.register_profile("no_deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("no_deadline")

_not_collected: dict[str, list[str]] = {}
_leftovers: dict[int, str] = {}
_running: list[str] = []
"""File that names the test that runs, for whoever finds the run dead; empty where nobody asked."""
_failures: list[str] = []
"""File that gets a line for each test that failed, for the same; empty where nobody asked."""

collect_ignore = ["interfaces"]


def pytest_configure(config: pytest.Config) -> None:
    required = os.environ.get("EXAONE_TEST_REQUIRE", "")
    missing = [name for name in required.split(",") if name and importlib.util.find_spec(name) is None]
    if missing:
        raise pytest.UsageError(f"EXAONE_TEST_REQUIRE asks for {', '.join(missing)}, which this Python does not have")
    wanted_numpy, found_numpy = os.environ.get("EXAONE_TEST_NUMPY", ""), importlib.metadata.version("numpy")
    if not found_numpy.startswith(wanted_numpy):
        raise pytest.UsageError(f"EXAONE_TEST_NUMPY asks for numpy {wanted_numpy}; this Python has {found_numpy}")
    domain, handle = claim_domain()
    config.add_cleanup(handle.close)
    variables = {
        # Told by whoever has to clean up after a run that was killed; not for the runs that tests start.
        MARK: os.environ.pop("EXAONE_TEST_MARK", None) or uuid.uuid4().hex,
        "ROS_DOMAIN_ID": str(domain),
        "FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml"),
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml"),
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"),
        # Processes that tests start find the same source as the tests do.
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))),
    }
    os.environ.update(variables)
    _running.append(os.environ.pop("EXAONE_TEST_RUNNING", ""))
    _failures.append(os.environ.pop("EXAONE_TEST_FAILURES", ""))
    if (Path(sys.prefix) / "share" / "ament_index").is_dir():
        os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)  # ROS 2 wheels, started without scripts/run.py


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    unwanted = set(filter(None, os.environ.get("EXAONE_TEST_WITHOUT", "").split(",")))
    absent = sorted(
        name
        for name in needed_modules(collection_path) & OPTIONAL_MODULES
        if name in unwanted or importlib.util.find_spec(name) is None
    )
    if not absent:
        return None
    _not_collected[str(collection_path.relative_to(ROOT))] = absent
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if needed_modules(item.path) & ROS_MODULES:
            item.add_marker("ros")


def pytest_report_collectionfinish() -> list[str]:
    lines = [f"ROS_DOMAIN_ID {os.environ['ROS_DOMAIN_ID']}"]
    lines += [f"not collected here: {path} (needs {', '.join(absent)})" for path, absent in _not_collected.items()]
    return lines


def pytest_runtest_logstart(nodeid: str) -> None:
    if _running[-1]:
        Path(_running[-1]).write_text(nodeid, encoding="utf-8")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and _failures[-1]:
        with Path(_failures[-1]).open("a", encoding="utf-8") as file:
            file.write(report.nodeid + "\n")


def pytest_sessionfinish(session: pytest.Session) -> None:
    _leftovers.update(end_leftovers(os.environ[MARK]))
    if _running[-1]:
        Path(_running[-1]).unlink(missing_ok=True)
    if _leftovers and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for pid, command in _leftovers.items():
        terminalreporter.write_line(f"LEFT RUNNING by a test, killed: {pid} {command}", red=True)


@pytest.fixture
def repository() -> Iterator[Path]:
    """The root of the source tree."""
    yield ROOT
