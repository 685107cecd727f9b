"""Tells the user what happens: one line for each step, a log with everything, and failures that say what to do."""

from __future__ import annotations

import collections
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

_BAR_WIDTH = 20
_REFRESH_S = 0.2
_HEARTBEAT_S = 30.0
_TAIL_LINES = 25

LineWatcher = Callable[["Step", str], None]


class ProvisionError(Exception):
    """Something the user has to know: what is wrong, and what to do about it."""


class CommandFailed(ProvisionError):
    """A command of a step ended with an error."""

    def __init__(self, step: str, command: Sequence[str], returncode: int, tail: Sequence[str], log: Path, advice: str):
        shown = "\n".join(f"    {line}" for line in tail) or "    (no output)"
        super().__init__(
            f"'{step}' failed: the command ended with {returncode}.\n"
            f"  Command: {shlex.join(command)}\n"
            f"  Its last lines:\n{shown}\n"
            f"  Full log: {log}\n"
            f"  What to do: {advice}"
        )


class Step:
    """One line of progress. Used as a context manager; `Report.step` makes it."""

    def __init__(self, report: Report, title: str):
        self.title = title
        self._report = report
        self._detail = ""
        self._fraction: float | None = None
        self._started = 0.0
        self._done = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)

    def progress(self, fraction: float | None, detail: str = "") -> None:
        """Say how far the step is.

        Args:
            fraction: 0..1, or None where nobody knows.
            detail: what is being done now, a few words.
        """
        self._fraction, self._detail = fraction, detail

    def run(
        self,
        command: Sequence[str],
        *,
        advice: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        watch: LineWatcher | None = None,
    ) -> None:
        """Run a command, its output into the log.

        Args:
            command: program and arguments; no shell is involved.
            advice: what the user should do if it fails.
            env: the whole environment of the command; None keeps ours.
            cwd: where it runs.
            watch: called with every line of output, to report progress.

        Raises:
            CommandFailed: it cannot be started or ended with an error.
        """
        log = self._report.log
        log.write(f"\n[{time.strftime('%H:%M:%S')}] $ {shlex.join(command)}\n")
        tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        try:
            process = subprocess.Popen(
                command,
                env=None if env is None else dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise CommandFailed(self.title, command, 127, [str(error)], self._report.log_path, advice) from error
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            line = line.rstrip()
            if line:
                tail.append(line)
            if watch is not None:
                watch(self, line)
        log.flush()
        returncode = process.wait()
        if returncode != 0:
            raise CommandFailed(self.title, command, returncode, tail, self._report.log_path, advice)

    def __enter__(self) -> Step:
        self._started = time.monotonic()
        self._report.log.write(f"\n[{time.strftime('%H:%M:%S')}] == {self.title}\n")
        if not self._report.live:
            self._report.say(f"  .. {self.title}")
        self._painter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._painter.join()
        mark = "ok" if kind is None else "!!"
        clear = "\r\x1b[2K" if self._report.live else ""
        self._report.say(f"{clear}  {mark} {self.title} ({_elapsed(time.monotonic() - self._started)})")

    def _paint(self) -> None:
        interval = _REFRESH_S if self._report.live else _HEARTBEAT_S
        while not self._done.wait(interval):
            elapsed = _elapsed(time.monotonic() - self._started)
            if self._report.live:
                self._report.write(
                    f"\r\x1b[2K  {_bar(self._fraction, time.monotonic())} {self.title} {elapsed}  {self._detail[:40]}"
                )
            else:
                percent = "" if self._fraction is None else f" {self._fraction:4.0%}"
                self._report.say(f"     {self.title}: {elapsed}{percent} {self._detail}".rstrip())


class Report:
    """Where the steps are told and logged.

    Args:
        log_path: file that receives the output of every command; it is appended to.
        out: where the user reads; a progress bar is drawn only where that is a terminal.
    """

    def __init__(self, log_path: Path, out: TextIO | None = None):
        log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_path = log_path
        self.log = log_path.open("a", encoding="utf-8", errors="replace")
        self._out = sys.stdout if out is None else out
        self.live = self._out.isatty()

    def step(self, title: str) -> Step:
        return Step(self, title)

    def say(self, line: str) -> None:
        self.write(line + "\n")

    def write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def close(self) -> None:
        self.log.close()


def watch_pip(step: Step, line: str) -> None:
    """Show which package pip is at."""
    words = line.split()
    if line.startswith("Installing collected packages"):  # and then says nothing until all of them are there
        step.progress(None, "putting the packages into place")
    elif len(words) > 1 and words[0] in ("Collecting", "Downloading"):
        step.progress(None, f"{words[0].lower()} {words[1]}")


def watch_build(step: Step, line: str) -> None:
    """Turn ninja's `[12/140] Building ...` or make's `[ 12%] Building ...` into a fraction."""
    if not line.startswith("[") or "]" not in line:
        return
    shown = line[1 : line.index("]")].strip()
    done, _, total = shown.partition("/")
    if done.isdigit() and total.isdigit() and int(total) > 0:
        step.progress(int(done) / int(total), shown)
    elif shown.endswith("%") and shown[:-1].isdigit():
        step.progress(int(shown[:-1]) / 100, "")


def _elapsed(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _bar(fraction: float | None, now: float) -> str:
    if fraction is None:
        at = int(now * 8) % _BAR_WIDTH
        return "[" + "".join("=" if (i - at) % _BAR_WIDTH < 4 else " " for i in range(_BAR_WIDTH)) + "]"
    filled = round(fraction * _BAR_WIDTH)
    return "[" + "=" * filled + " " * (_BAR_WIDTH - filled) + "]"
