"""The sum at the end of a test run cannot be green by accident."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from provision import lanes
from provision.environment import Runtime
from provision.report import Report
from provision.sequence import LAST_START_S, WHOLE_S, run_in_turn, summary

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


@pytest.fixture
def unlimited() -> Iterator[None]:
    """The time of a run, as before."""
    yield
    lanes.end_by(math.inf)


@pytest.mark.usefixtures("unlimited")
def test_a_command_ends_with_the_time_of_the_whole_run() -> None:
    lanes.end_by(time.monotonic())
    with pytest.raises(lanes.OutOfTime):
        lanes._bounded([sys.executable, "-c", "import threading; threading.Event().wait(600)"], {"PATH": "/usr/bin"})


@pytest.mark.parametrize("word", ["False", "True"])
def test_what_failed_before_the_time_was_over_has_failed(
    tmp_path: Path, here: Runtime, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    tests = tmp_path / "test_cut.py"
    tests.write_text(f"import os\n\n\ndef test_first():\n    assert {word}\n\n\ndef test_cut():\n    os.abort()\n")
    bounded = lanes._bounded

    def cut(command: list[str], env: dict[str, str]) -> int:
        assert bounded(command, env) == -6
        raise lanes.OutOfTime

    monkeypatch.setattr(lanes, "_bounded", cut)
    variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'test'}"}
    if word == "True":
        with pytest.raises(lanes.OutOfTime):
            lanes.pytest("lane", here, "-p", "conftest", str(tests), require=(), variables=variables)
        return
    outcome = lanes.pytest("lane", here, "-p", "conftest", str(tests), require=(), variables=variables)
    assert (outcome.passed, outcome.failed, outcome.out_of_time) == (0, 1, False)
    assert outcome.note.startswith("not finished for lack of time; ")
    assert outcome.note.endswith("test_cut.py::test_first had failed")


@pytest.mark.usefixtures("unlimited")
def test_what_failed_stays_failed_where_there_is_no_time_for_a_second_try(
    here: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def run(*_arguments: object) -> lanes.Outcome:
        tries.append(1)
        if len(tries) > 1:
            raise lanes.OutOfTime
        return lanes.Outcome(5, 1)

    monkeypatch.setattr(lanes, "_run_pytest", run)
    assert lanes.pytest("lane", here, require=()) == lanes.Outcome(5, 1) and len(tries) == 2


@pytest.mark.usefixtures("unlimited")
def test_lanes_that_there_is_no_time_for_are_named_and_no_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    ends: list[float] = []
    monkeypatch.setattr(lanes, "end_by", ends.append)

    def taking(seconds: float, outcome: lanes.Outcome | None) -> Callable[[], lanes.Outcome]:
        def run() -> lanes.Outcome:
            now[0] += seconds
            if outcome is None:
                raise lanes.OutOfTime
            return outcome

        return run

    chosen = {
        "quick": taking(LAST_START_S, lanes.Outcome(3, 0)),
        "cut": taking(500.0, None),
        "late": taking(0.0, lanes.Outcome(9, 9)),
    }
    rows = run_in_turn(chosen, dict.fromkeys(chosen, "proves something"), clock=lambda: now[0])
    assert ends == [100.0 + WHOLE_S]
    assert [(name, outcome.passed, outcome.failed, outcome.out_of_time) for name, outcome, _ in rows] == [
        ("quick", 3, 0, False), ("cut", 0, 0, True), ("late", 0, 0, True),
    ]  # fmt: skip
    text, status = summary(rows)
    assert status == 0 and text.endswith("\n3 passed, 0 failed")
    assert "not finished: it began when 3000 s were over" in text and "not run: 3500 s were over" in text
    assert 'NOT TESTED for lack of time: cut, late; `make test ARGS="cut late"` runs the rest.' in text


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([lanes.Outcome(3, 0)], 0),
        ([lanes.Outcome(3, 0), lanes.Outcome(8, 1)], 1),
        ([lanes.Outcome(0, 0, note="not run: no wheel")], 0),
        ([lanes.Outcome(0, 0, out_of_time=True)], 1),
    ],
)
def test_a_run_is_as_good_as_its_lanes(outcomes: list[lanes.Outcome], status: int) -> None:
    assert summary([(f"lane{i}", outcome, 1.0) for i, outcome in enumerate(outcomes)])[1] == status


@pytest.mark.parametrize(("late", "status"), [("full", 1), ("kilted", 0)])
def test_a_run_without_a_lane_that_is_needed_has_failed(late: str, status: int) -> None:
    rows = [("lint", lanes.Outcome(3, 0), 1.0), (late, lanes.Outcome(0, 0, out_of_time=True), 1.0)]
    text, found = summary(rows, needed=("lint", "full"))
    assert found == status and f"NOT TESTED for lack of time: {late};" in text
