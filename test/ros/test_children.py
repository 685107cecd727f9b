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

pytest.importorskip("rclpy")

from exaone_ros.ros.children import ended_by_signals

COMMAND = """
import sys, threading
from pathlib import Path
from exaone_ros.ros.children import Child, ended_by_signals

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
