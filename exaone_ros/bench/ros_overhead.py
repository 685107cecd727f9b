"""What ROS costs: from the image's stamp to the engine's start, and from the engine's end to another process.

The real perception node looks at a 30 Hz camera and answers one short question ten times a second, so that the engine
is idle when an image comes and nothing but ROS is waited for; a probe in another process publishes the images and
receives the answers. Both directions are one DDS hop on this machine. The engine's own time, which every answer
carries, is taken off.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.bench.processes import domain_of_its_own, node_arguments
from exaone_ros.errors import ExaoneError
from exaone_ros.ros.children import Child
from exaone_ros.view.tally import percentiles

ANSWER_RATE_HZ = 10.0
STARTUP_S = 60.0


@contextmanager
def perception(
    directory: Path, model: Path, threads: int, offset: int, rate_hz: float
) -> Iterator[tuple[Child, dict[str, str]]]:
    """The perception node with one short task, in a DDS domain of its own; gives the process and its environment.

    `rate_hz` is how often the task is asked; 0 = on every frame that the engine can take.
    """
    environment = domain_of_its_own(offset)
    tasks = directory / "tasks.yaml"
    tasks.write_text(f"all: {{kind: count, rate: {rate_hz}}}\n")
    values = {
        "autostart": "true", "model": model, "image_topic": "/probe/image_raw", "tasks_file": tasks,
        "threads": threads, "max_age_s": 1.0,
    }  # fmt: skip
    with Child("perception", node_arguments("/exaone", values), directory / "perception.log", environment) as child:
        yield child, environment


def probe(
    directory: Path,
    frames: NDArray[np.uint8],
    rate_hz: float,
    answers: int,
    timeout_s: float,
    watched: Child,
    environment: dict[str, str],
) -> dict[str, Any]:
    """Run the probe to its end and return what it printed.

    Raises:
        ExaoneError: the answers did not come.
    """
    file = directory / "frames.npy"
    np.save(file, frames)
    arguments = ["--frames", str(file), "--rate", str(rate_hz), "--answers", str(answers)]
    arguments += ["--pid", str(watched.process.pid), "--timeout", str(timeout_s)]
    with Child("probe", arguments, directory / "probe.log", environment) as child:
        code = child.process.wait()
        if code != 0:
            raise ExaoneError(
                f"the probe got too few answers; its log:\n{child.tail()}\nperception's log:\n{watched.tail()}"
            )
        return dict(json.loads(child.tail(1)))


def measure(model: Path, threads: int, answers: int = 600, rate_hz: float = 30.0) -> dict[str, Any]:
    """Overhead at 640x480 and 1280x720, in milliseconds."""
    out: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for offset, (width, height) in enumerate(((640, 480), (1280, 720))):
        frames = rng.integers(0, 255, (4, height, width, 3), np.uint8)
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            with perception(directory, model, threads, offset, ANSWER_RATE_HZ) as (child, environment):
                timeout_s = STARTUP_S + 3 * answers / ANSWER_RATE_HZ
                result = probe(directory, frames, rate_hz, answers, timeout_s, child, environment)
        before, after, engine = np.array(result["samples_ms"]).T
        out[f"{width}x{height}"] = {
            **percentiles(before + after),
            "stamp_to_engine": percentiles(before),
            "engine_to_receiver": percentiles(after),
            "engine": percentiles(engine),
            "answers": len(engine),
        }
    return out


def memory(model: Path, threads: int, frames: int = 10_000, rate_hz: float = 60.0) -> dict[str, Any]:
    """Resident memory of the perception node over many answered frames of 640x480, in MB."""
    images = np.random.default_rng(1).integers(0, 255, (4, 480, 640, 3), np.uint8)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with perception(directory, model, threads, 2, 0.0) as (child, environment):
            timeout_s = STARTUP_S + frames / 5.0
            series = probe(directory, images, rate_hz, frames, timeout_s, child, environment)["memory_mb"]
    tenth = max(len(series) // 10, 1)
    return {
        "start": round(float(np.median(series[:tenth])), 1),
        "end": round(float(np.median(series[-tenth:])), 1),
        "frames": frames,
    }
