"""What the user is told while the machine is made ready, and when that fails."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from provision.report import CommandFailed, LineWatcher, Report, Step, watch_build, watch_pip


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def report(tmp_path: Path, out: io.StringIO) -> Report:
    return Report(tmp_path / "logs" / "setup.log", out)


def test_a_step_is_announced_and_closed_with_its_time(report: Report, out: io.StringIO) -> None:
    with report.step("Making tea") as step:
        step.run([sys.executable, "-c", "print('boiling')"], advice="none")
    lines = out.getvalue().splitlines()
    assert lines[0] == "  .. Making tea"
    assert lines[-1].startswith("  ok Making tea (") and lines[-1].endswith("s)")
    assert "boiling" in report.log_path.read_text()
    assert "boiling" not in out.getvalue()


def test_a_failure_names_the_command_the_last_lines_the_log_and_the_advice(report: Report, out: io.StringIO) -> None:
    program = "import sys; [print('line', n) for n in range(100)]; print('the reason'); sys.exit(3)"
    with pytest.raises(CommandFailed) as caught, report.step("Making tea") as step:
        step.run([sys.executable, "-c", program], advice="buy tea")
    told = str(caught.value)
    for part in (
        "'Making tea'",
        "ended with 3",
        sys.executable,
        "the reason",
        "line 99",
        str(report.log_path),
        "buy tea",
    ):
        assert part in told
    assert "line 10\n" not in told, "only the tail is shown"
    assert "!! Making tea" in out.getvalue()


def test_a_program_that_does_not_exist_is_such_a_failure(report: Report) -> None:
    with pytest.raises(CommandFailed, match="no-such-program"), report.step("Making tea") as step:
        step.run(["no-such-program"], advice="install it")


def test_output_that_is_no_text_is_survived(report: Report) -> None:
    with report.step("Making noise") as step:
        step.run([sys.executable, "-c", r"import sys; sys.stdout.buffer.write(b'\xff\xfe\n')"], advice="none")


@pytest.mark.parametrize(
    ("watch", "line", "told"),
    [
        (watch_build, "[12/48] Building C object", [(0.25, "12/48")]),
        (watch_build, "[ 25%] Building C object", [(0.25, "")]),
        (watch_build, "[x/y] not ninja", []),
        (watch_build, "-- Configuring done", []),
        (watch_pip, "Collecting numpy==2.4.6", [(None, "collecting numpy==2.4.6")]),
        (watch_pip, "Installing collected packages: a, b", [(None, "putting the packages into place")]),
        (watch_pip, "", []),
    ],
)
def test_progress_is_read_from_the_output(
    report: Report, watch: LineWatcher, line: str, told: list[tuple[float | None, str]]
) -> None:
    seen: list[tuple[float | None, str]] = []
    step = Step(report, "x")
    step.progress = lambda done, what="": seen.append((done, what))  # type: ignore[method-assign]
    watch(step, line)
    assert seen == told
