"""A process that serves the bundled checkpoint over the OpenAI-compatible API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
KEY = "a key for tests"
KEY_VARIABLE = "EXAONE_SERVER_API_KEY"
PATIENCE_S = 60.0


class Served:
    """Started when made; `url` is where it listens. `end` it."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), KEY_VARIABLE: KEY}
        command = [sys.executable, "-m", "exaone_ros.engine.serve", "--port", "0", "--name", "tiny", "--threads", "1"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving tiny at http://"), line
        self.url = line.split()[-1]

    def end(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()
