"""The lanes of the test run: each proves one thing about the package, and counts what passed and what failed."""

from __future__ import annotations

import math
import platform
import shutil
import signal
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.environment import REQUIREMENTS, ROOT, Runtime
from provision.interfaces import FASTER_BUILD
from provision.report import CommandFailed, Report, watch_build
from provision.stamp import Stamps, exclusive, fingerprint
from provision.wheels import pip_install

WORK = ROOT / ".test_work"
LEFTOVERS = ROOT / "test" / "support" / "leftovers.py"

# Modules without which a lane would silently test less than it says.
ROS_MODULES = ("rclpy", "exaone_interfaces", "vision_msgs")
SMALL_MODULES = (*ROS_MODULES, "onnxruntime", "llguidance", "mujoco", "rosbags")
ALL_MODULES = (*SMALL_MODULES, "torch", "transformers", "pyarrow", "av")
REFERENCE_MODULES = ("torch", "transformers")

MOST_SECOND_TRIES = 3
"""Tests of a lane that may be tried again: real processes over real DDS on a machine that others use too. More than
that is no accident. What passed at the second try only is said in the lane's row."""
LAST_FAILED = ("--last-failed", "--last-failed-no-failures", "none")

TEST_LIMIT_S = 600
"""A test that takes longer hangs: it is shown where every thread of its process stands, and the lane ends."""
LIMIT_S = 2400.0
"""A command of a lane that takes longer is ended, and the lane has failed."""

OF_ANY_ROS = ("test/model", "test/engine/backends", "test/engine/tensorrt", "test/bench")
"""Rooms that import no ROS, and whose tests take long."""

RTX_TESTS = "test/engine/tensorrt/test_rtx_builder.py"

NEWEST_PYTHON_WITH_NUMPY_1 = (3, 12)


@dataclass(frozen=True)
class Outcome:
    """What one lane found.

    Attributes:
        passed: tests or checks.
        failed: tests or checks, at least 1 where the lane itself broke.
        skipped: tests that said why they cannot run here.
        note: what a reader should know, e.g. why the lane broke.
        out_of_time: it did not begin, or was ended, because the time of the whole run was over: nothing is known of it.
    """

    passed: int
    failed: int
    skipped: int = 0
    note: str = ""
    out_of_time: bool = False


class OutOfTime(Exception):
    """The time of the whole run is over while a command of a lane still runs; it was ended."""


def lint(runtime: Runtime) -> Outcome:
    """Style, format and types."""
    python = str(runtime.python)
    checks = {
        "ruff check": [python, "-m", "ruff", "check", "."],
        "ruff format": [python, "-m", "ruff", "format", "--check", "."],
        "mypy": [python, "-m", "mypy"],
    }
    wrong = []
    for name, command in checks.items():
        print(f"-- {name}", flush=True)
        if _bounded(command, runtime.variables) != 0:
            wrong.append(name)
    return Outcome(len(checks) - len(wrong), len(wrong), note=", ".join(wrong))


def pytest(
    name: str,
    runtime: Runtime,
    *arguments: str,
    require: Sequence[str] = ALL_MODULES,
    without: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """The tests in one Python.

    Args:
        name: of the lane, for its result file.
        runtime: which Python.
        arguments: for pytest: what to run.
        require: modules that have to be there; without one the lane fails.
        without: modules whose tests are left to other lanes.
        variables: on top of the runtime's.
    """
    chosen = {"EXAONE_TEST_REQUIRE": ",".join(require), "EXAONE_TEST_WITHOUT": ",".join(without)}
    env = {**runtime.variables, **chosen, **(variables or {})}
    cache = ("-o", f"cache_dir={WORK / name}")
    first = _run_pytest(WORK / f"{name}.xml", runtime, env, *cache, *arguments)
    if first.note or not 0 < first.failed <= MOST_SECOND_TRIES:  # a crash or a bad end gets no second try
        return first
    print(f"-- {first.failed} failed: a second try, on a machine that may be quieter now", flush=True)
    try:
        second = _run_pytest(WORK / f"{name}.second.xml", runtime, env, *cache, *LAST_FAILED, *arguments)
    except OutOfTime:  # what failed has failed
        return first
    if second.failed or second.passed != first.failed:
        return first
    return Outcome(first.passed + second.passed, 0, first.skipped, f"{second.passed} passed at the second try only")


def _run_pytest(results: Path, runtime: Runtime, env: Mapping[str, str], *arguments: str) -> Outcome:
    running, failures, mark = results.with_suffix(".running"), results.with_suffix(".failures"), uuid.uuid4().hex
    results.parent.mkdir(parents=True, exist_ok=True)
    for path in (results, running, failures):
        path.unlink(missing_ok=True)
    limit = ("-o", f"faulthandler_timeout={TEST_LIMIT_S}", "-o", "faulthandler_exit_on_timeout=true")
    command = [str(runtime.python), "-m", "pytest", "-q", f"--junit-xml={results}", *limit, *arguments]
    told = {"EXAONE_TEST_RUNNING": str(running), "EXAONE_TEST_FAILURES": str(failures), "EXAONE_TEST_MARK": mark}
    try:
        status = _bounded(command, {**env, **told})
    except OutOfTime:
        if not failures.exists():
            raise
        failed = failures.read_text(encoding="utf-8").splitlines()  # which there is no time to try again
        return Outcome(0, len(set(failed)), note=f"not finished for lack of time; {failed[0]} had failed")
    finally:  # of a run that could not do so itself, e.g. because it was interrupted
        subprocess.run([sys.executable, str(LEFTOVERS), mark], check=False)
    at = f" in {running.read_text(encoding='utf-8')}" if running.exists() else ""
    return _judged([results] if results.exists() else [], status, "pytest", at)


def end_by(moment: float) -> None:
    """Let no command of a lane run on behind this moment of the monotonic clock; one that does raises `OutOfTime`."""
    global _ends_at
    _ends_at = moment


_ends_at = math.inf


def _bounded(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command in the root for at most `LIMIT_S`; returns its exit status.

    Raises:
        OutOfTime: the time of the whole run was over first.
    """
    left = max(0.0, _ends_at - time.monotonic())
    with subprocess.Popen(command, cwd=ROOT, env=env) as process:
        try:
            return process.wait(min(left, LIMIT_S))
        except subprocess.TimeoutExpired:
            late = "the time of the whole run is over" if left < LIMIT_S else f"not done after {LIMIT_S:g} s"
            print(f"-- {late}: ended", flush=True)
            process.send_signal(signal.SIGABRT)  # pytest says where it stands
            try:
                status = process.wait(60.0)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            if left < LIMIT_S:
                raise OutOfTime from None
            return status
        except BaseException:
            process.kill()
            raise


def with_numpy_1(runtime: Runtime, report: Report) -> Outcome:
    """The tests that need no torch, with the numpy of an apt ROS 2 laid over the environment of the wheels."""
    if sys.version_info[:2] > NEWEST_PYTHON_WITH_NUMPY_1:
        return Outcome(
            0, 0, note=f"not run: numpy 1.26 does not exist for Python {sys.version_info[0]}.{sys.version_info[1]}"
        )
    overlay = _overlay(runtime, "numpy1", "Installing numpy 1.26", report)
    variables = {"PYTHONPATH": _with(overlay, runtime), "EXAONE_TEST_NUMPY": "1.26"}
    return pytest("numpy1", runtime, "-m", "not slow and not installed", without=REFERENCE_MODULES, variables=variables)


def tensorrt_rtx(runtime: Runtime, report: Report) -> Outcome:
    """Every graph of the latest opset through TensorRT-RTX's own parser and builder, which need no GPU."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Outcome(0, 0, note=f"not run: TensorRT-RTX has no wheel for {platform.system()} {platform.machine()}")
    overlay = _overlay(runtime, "tensorrt-rtx", "Installing TensorRT-RTX (95 MB)", report, "--no-deps")
    variables = {"PYTHONPATH": _with(overlay, runtime)}
    return pytest("tensorrt-rtx", runtime, RTX_TESTS, require=["tensorrt_rtx_bindings"], variables=variables)


def _overlay(runtime: Runtime, group: str, title: str, report: Report, *options: str) -> Path:
    """A requirement file installed into a folder of its own, to be laid over the environment."""
    requirements = REQUIREMENTS / f"{group}.txt"
    overlay = runtime.python.parent.parent / group
    stamps, mark = Stamps(overlay), fingerprint([requirements])
    with exclusive(overlay):
        if not stamps.is_done(group, mark):
            shutil.rmtree(overlay, ignore_errors=True)
            with report.step(title) as step:
                target = ["--target", str(overlay), *options]
                pip_install(step, runtime.python, runtime.variables, [requirements], *target)
            stamps.done(group, mark)
    return overlay


def _with(overlay: Path, runtime: Runtime) -> str:
    """PYTHONPATH with an overlay before everything else."""
    return f"{overlay}:{runtime.variables.get('PYTHONPATH', '')}"


def colcon(runtime: Runtime, report: Report) -> Outcome:
    """A real `colcon build` and `colcon test` of both packages, in a workspace of their own."""
    workspace = WORK / "colcon"
    shutil.rmtree(workspace, ignore_errors=True)
    variables = dict(runtime.variables)
    cmake = ["-DCMAKE_C_FLAGS=-O0", "-DCMAKE_CXX_FLAGS=-O0", f"-DPython3_EXECUTABLE={runtime.python}", "-G", "Ninja"]
    cmake.append(f"-DCMAKE_PROJECT_INCLUDE={FASTER_BUILD}")
    if runtime.prefix is not None:
        variables.update(AMENT_PREFIX_PATH=str(runtime.prefix), CMAKE_PREFIX_PATH=str(runtime.prefix))
    # The package in the root hides the one inside it from colcon's search: both are named.
    where = ["--base-paths", str(ROOT), str(ROOT / "exaone_interfaces")]
    where += ["--build-base", str(workspace / "build"), "--install-base", str(workspace / "install")]
    program = [str(runtime.python), "-m", "colcon", "--log-base", str(workspace / "log")]
    build = [*program, "build", *where, "--executor", "sequential", "--event-handlers", "console_direct+"]
    try:
        with report.step("colcon build") as step:
            step.run(
                [*build, "--cmake-args", *cmake],
                advice="see the first error in the log.",
                env=variables,
                watch=watch_build,
            )
    except CommandFailed as error:
        print(error)
        return Outcome(0, 1, note="colcon build failed")
    variables["EXAONE_INSTALL_SPACE"] = str(workspace / "install")
    chosen = ["--pytest-args", "test/test_installed.py", "-m", "installed"]
    test = [*program, "test", *where, "--executor", "sequential", "--event-handlers", "console_direct+", *chosen]
    status = _bounded(test, variables)
    results = [path for path in (workspace / "build").rglob("*.xml") if _is_junit(path)]
    return _judged(results, status, "colcon test")


def _is_junit(path: Path) -> bool:
    return path.name == "pytest.xml" or path.name.endswith(".xunit.xml")


def _judged(results: Sequence[Path], status: int, program: str, at: str = "") -> Outcome:
    """Sum JUnit files; a run that ended badly or ran nothing is a failure even where no test says so.

    Args:
        results: the files.
        status: exit status of the program.
        program: what ran.
        at: where it was when it ended without a result, for the note.
    """
    passed = failed = skipped = 0
    for path in results:
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            tests, bad, skips = (int(suite.get(key, 0)) for key in ("tests", "failures", "skipped"))
            bad += int(suite.get("errors", 0))
            passed, failed, skipped = passed + tests - bad - skips, failed + bad, skipped + skips
    if failed == 0 and passed == 0:
        return Outcome(0, 1, skipped, f"{program} has no result (it ended with {status}{at})")
    if failed == 0 and status != 0:
        return Outcome(passed, 1, skipped, f"{program} ended with {status}")
    return Outcome(passed, failed, skipped)
