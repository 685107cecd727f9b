"""What `make demo` shows: accuracy against the simulator's truth, answers per second, their ages, latency by stage.

The demo runs as a user's would, in a process that starts the simulator and the perception node; rendering, encoding the
video of it all and the engine share the machine.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from exaone_ros.bench.processes import domain_of_its_own
from exaone_ros.errors import ExaoneError
from exaone_ros.ros.children import Child

SUMMARY = "summary.json"


def measure(model: Path, seconds: float = 30.0) -> dict[str, Any]:
    """The summary of one demo, as it writes it.

    Args:
        model: checkpoint of the perception node.
        seconds: how long it watches.

    Raises:
        ExaoneError: the demo failed, or nothing was answered; the message holds the tail of its output.
    """
    with tempfile.TemporaryDirectory() as name:
        out, log = Path(name) / "out", Path(name) / "demo.log"
        arguments = ["--seconds", str(seconds), "--out", str(out), "--model", str(model)]
        with Child("demo", arguments, log, domain_of_its_own(6)) as demo:
            status = demo.process.wait()
            if status != 0:
                raise ExaoneError(f"the demo ended with status {status}; its output ends with:\n{demo.tail()}")
        return dict(json.loads((out / SUMMARY).read_text()))
