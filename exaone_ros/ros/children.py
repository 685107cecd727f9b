"""Start nodes as processes of their own and end them by pid, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from exaone_ros.share import share_path


def local_dds() -> dict[str, str]:
    """Environment of nodes on one machine: Fast DDS with room for images, and no discovery beyond this machine."""
    profile = str(share_path("config/fastdds.xml"))
    return {
        "FASTDDS_DEFAULT_PROFILES_FILE": profile,
        "FASTRTPS_DEFAULT_PROFILES_FILE": profile,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }


def prepare_environment() -> None:
    """For this process and its nodes: `local_dds`, and rendering without a display; what is set already stays."""
    for name, value in {**local_dds(), "MUJOCO_GL": "egl"}.items():
        os.environ.setdefault(name, value)


class Child:
    """A node in its own process, its output in a log file.

    `with Child("perception", [...], log) as child: ...` ends it with SIGINT, then SIGTERM, then SIGKILL.

    Args:
        node: module name under ``exaone_ros.nodes``.
        arguments: what follows on the command line, e.g. ``["--ros-args", "-p", "rate_hz:=10.0"]``.
        log: file for stdout and stderr.
        environment: variables on top of this process's own.
    """

    def __init__(
        self, node: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.node, self.log = node, log
        self._file: IO[bytes] = log.open("wb")
        # Its own session: Ctrl-C in the terminal reaches the parent alone, which then ends its children in order.
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", f"exaone_ros.nodes.{node}", *arguments],
            stdout=self._file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        """False once the process has ended by itself or by `stop`."""
        return self.process.poll() is None

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, patience_s: float = 5.0) -> int:
        """End the process: SIGINT, after `patience_s` SIGTERM, then SIGKILL; returns its exit code.

        An interrupt meanwhile, as of a second Ctrl-C, ends it by SIGKILL and is raised.
        """
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                break
            self.process.send_signal(signal_number)
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
            except BaseException:  # told once more to end: at once then, but not without this process
                self.process.kill()
                self.process.wait()
                self._file.close()
                raise
        self._file.close()
        return self.process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
