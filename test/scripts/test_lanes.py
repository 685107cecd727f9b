"""The sum at the end of a test run cannot be green by accident."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from provision import lanes
from provision.environment import Runtime
from provision.report import Report

ROOT = Path(__file__).resolve().parents[2]


def judged(folder: Path, *suites: str, status: int = 0) -> lanes.Outcome:
    files = []
    for index, suite in enumerate(suites):
        files.append(folder / f"{index}.xml")
        files[-1].write_text(f"<testsuites>{suite}</testsuites>")
    return lanes._judged(files, status, "pytest")


def test_results_are_summed(tmp_path: Path) -> None:
    first = '<testsuite tests="10" failures="1" errors="2" skipped="3"/>'
    assert judged(tmp_path, first, '<testsuite tests="5"/>', status=1) == lanes.Outcome(9, 3, 3)


@pytest.mark.parametrize("suites", [(), ('<testsuite tests="4" skipped="4"/>',)])
def test_a_lane_that_ran_nothing_has_failed(tmp_path: Path, suites: tuple[str, ...]) -> None:
    outcome = judged(tmp_path, *suites, status=5)
    assert (outcome.passed, outcome.failed) == (0, 1)
    assert "no result" in outcome.note


def test_a_bad_end_counts_even_where_every_test_passed(tmp_path: Path) -> None:
    outcome = judged(tmp_path, '<testsuite tests="4"/>', status=-6)
    assert (outcome.passed, outcome.failed) == (4, 1)
    assert "-6" in outcome.note


def test_a_lane_without_a_module_that_it_needs_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not shrink silently to the tests that can still run."""
    monkeypatch.setattr(lanes, "WORK", tmp_path)
    runtime = Runtime("jazzy", Path(sys.executable), {"PATH": "/usr/bin:/bin"}, None)
    outcome = lanes.pytest("lane", runtime, "--collect-only", require=["no_such_module"])
    assert (outcome.passed, outcome.failed) == (0, 1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """This Python, with a lane's files in a folder of the test."""
    monkeypatch.setattr(lanes, "WORK", tmp_path)
    return Runtime("jazzy", Path(sys.executable), {"PATH": "/usr/bin:/bin"}, None)


def test_what_passes_at_the_second_try_only_is_told(tmp_path: Path, here: Runtime) -> None:
    tests = tmp_path / "test_twice.py"
    tests.write_text(
        "from pathlib import Path\n\nMARK = Path(__file__).with_name('mark')\n\n\n"
        "def test_second():\n    there = MARK.exists()\n    MARK.touch()\n    assert there\n\n\n"
        "def test_first():\n    assert not MARK.with_name('other').exists()\n"
    )
    outcome = lanes.pytest("lane", here, str(tests), require=())
    assert (outcome.passed, outcome.failed) == (2, 0)
    assert outcome.note == "1 passed at the second try only"


@pytest.mark.parametrize("number", [1, lanes.MOST_SECOND_TRIES + 1])
def test_what_fails_twice_or_often_has_failed(tmp_path: Path, here: Runtime, number: int) -> None:
    tests = tmp_path / "test_bad.py"
    tests.write_text("\n\n".join(f"def test_{i}():\n    assert False" for i in range(number)))
    assert lanes.pytest("lane", here, str(tests), require=()).failed == number


def test_a_crash_names_its_test_and_gets_no_second_try(tmp_path: Path, here: Runtime) -> None:
    """Not even where an earlier run left one failed test that would pass now."""
    tests = tmp_path / "test_crash.py"
    tests.write_text("def test_it():\n    assert False")
    assert lanes.pytest("lane", here, str(tests), require=()).failed == 1
    tests.write_text("import os\n\n\ndef test_it():\n    os.abort()\n")
    variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'test'}"}
    outcome = lanes.pytest("lane", here, "-p", "conftest", str(tests), require=(), variables=variables)
    assert (outcome.passed, outcome.failed) == (0, 1)
    # named as seen from the root, which depends on where this checkout lies
    assert outcome.note.startswith("pytest has no result (it ended with -6 in ")
    assert outcome.note.endswith("test_crash.py::test_it)")


@pytest.mark.parametrize(("limit", "status"), [("TEST_LIMIT_S", 1), ("LIMIT_S", -6)])
def test_a_hang_is_shown_and_ended(
    tmp_path: Path, here: Runtime, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], limit: str,
    status: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(lanes, limit, 6)
    tests = tmp_path / "test_hang.py"
    tests.write_text("import threading\n\n\ndef test_it():\n    threading.Event().wait(600)\n")
    outcome = lanes.pytest("lane", here, str(tests), require=())
    assert (outcome.passed, outcome.failed) == (0, 1) and f"ended with {status}" in outcome.note
    if limit == "TEST_LIMIT_S":  # on a busy machine the other one may end pytest before it has begun
        assert "in test_it" in capfd.readouterr().err


def test_what_an_interrupted_run_left_behind_is_ended(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    marks: list[str] = []

    def interrupted(_command: object, env: dict[str, str]) -> int:
        marks.append(env["EXAONE_TEST_MARK"])
        raise KeyboardInterrupt

    ended: list[list[str]] = []
    monkeypatch.setattr(lanes, "_bounded", interrupted)
    monkeypatch.setattr(lanes.subprocess, "run", lambda command, check: ended.append(command))
    with pytest.raises(KeyboardInterrupt):
        lanes.pytest("lane", here, require=())
    assert [command[1:] for command in ended] == [[str(lanes.LEFTOVERS), mark] for mark in marks] and marks


def test_a_wrong_lane_name_is_refused_with_the_right_ones() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "test.py"), "jazy"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2
    assert "jazy" in answer.stderr and "lint, full, colcon" in answer.stderr


def test_tensorrt_rtx_lies_over_the_environment_and_must_be_there(
    here: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, ran = [], []
    monkeypatch.setattr(
        lanes, "pip_install", lambda step, python, variables, files, *options: installed.append(options)
    )
    monkeypatch.setattr(lanes, "pytest", lambda *a, **o: (ran.append((a, o)), lanes.Outcome(1, 0))[1])
    monkeypatch.setattr(lanes.platform, "machine", lambda: "x86_64")
    runtime = replace(here, python=tmp_path / "venv" / "bin" / "python", variables={"PYTHONPATH": "/source"})
    (tmp_path / "venv").mkdir()
    for _ in range(2):
        assert lanes.tensorrt_rtx(runtime, Report(tmp_path / "log")).passed == 1
    overlay = tmp_path / "venv" / "tensorrt-rtx"
    assert installed == [("--target", str(overlay), "--no-deps")], "installed once"
    assert ran[0][1]["variables"]["PYTHONPATH"] == f"{overlay}:/source"
    assert ran[0][1]["require"] == ["tensorrt_rtx_bindings"], "a lane that skips everything would prove nothing"
    assert (ROOT / ran[0][0][2]).is_file()
    monkeypatch.setattr(lanes.platform, "machine", lambda: "aarch64")
    outcome = lanes.tensorrt_rtx(runtime, Report(tmp_path / "log"))
    assert (outcome.passed, outcome.failed) == (0, 0) and "no wheel for Linux aarch64" in outcome.note
