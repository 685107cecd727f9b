"""Nodes that a command has started end with it, whatever ends the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.imports import source_files

pytest.importorskip("rclpy")

from exaone_ros.pipes import ended_by_signals
from exaone_ros.ros.children import Child

COMMAND = """
import sys, threading
from pathlib import Path
from exaone_ros.pipes import ended_by_signals
from exaone_ros.ros.children import Child

@ended_by_signals()
def main():
    with Child("perception", ["--ros-args", "-p", "autostart:=false"], Path(sys.argv[1])) as child:
        print(child.process.pid, flush=True)
        threading.Event().wait()

main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_ends_its_nodes(number: signal.Signals, tmp_path: Path) -> None:
    # What is ignored here (nohup) would be ignored there.
    before = {s: signal.signal(s, signal.SIG_DFL) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        command = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(tmp_path / "log")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)
    node = None
    try:
        assert command.stdout is not None
        node = int(command.stdout.readline())
        command.send_signal(number)
        command.wait(60)
        with pytest.raises(ProcessLookupError):  # reaped by its parent, too
            os.kill(node, 0)
        node = None
    finally:
        command.kill()
        command.communicate()
        if node is not None:
            with suppress(ProcessLookupError):
                os.kill(node, signal.SIGKILL)


def test_signals_are_as_before_behind_the_command_and_left_alone_elsewhere() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        thread = threading.Thread(target=ended_by_signals().__enter__)
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_leaves_no_node_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child("perception", ["--ros-args", "-p", "autostart:=false"], tmp_path / "log")
    wait, told = child.process.wait, [KeyboardInterrupt]

    def interrupted(timeout: float | None = None) -> int:
        if told:
            raise told.pop()
        return wait(timeout)

    monkeypatch.setattr(child.process, "wait", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            child.stop(60.0)
        assert child.process.returncode is not None, "it was waited for"
    finally:
        if child.process.poll() is None:
            child.process.kill()
            wait()


def test_every_command_that_starts_nodes_ends_them() -> None:
    sources = {str(file): file.read_text(encoding="utf-8") for file in source_files()}
    starting = [name for name, text in sources.items() if " Child(" in text and 'if __name__ == "__main__":' in text]
    assert len(starting) >= 3, "demo, scenario and realtime among them"
    assert [name for name in starting if "@ended_by_signals()" not in sources[name]] == []
