"""One, two and four cameras on one model: CPU, rate of answers, their age, and whether the cameras are served alike.

The real perception node counts on every 640x480 frame that it can take; a probe in another process publishes 15 frames
per second for each camera and receives the answers.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from exaone_ros.bench.processes import domain_of_its_own, node_arguments
from exaone_ros.errors import ExaoneError
from exaone_ros.ros.children import Child
from exaone_ros.share import share_path
from exaone_ros.view.tally import percentiles

NUMBERS = (1, 2, 4)
RATE_HZ = 15.0
MAX_AGE_S = 1.0
STARTUP_S = 120.0


def measure(
    model: Path, threads: int, seconds: float = 30.0, numbers: tuple[int, ...] = NUMBERS, concurrent_looks: int = 1
) -> list[dict[str, Any]]:
    """One entry for each number of cameras, ages in milliseconds.

    Args:
        model: checkpoint directory.
        threads: of the engine.
        seconds: how long each is measured.
        numbers: of cameras.
        concurrent_looks: as the node's parameter.

    Raises:
        ExaoneError: the answers did not come.
    """
    frames = np.random.default_rng(2).integers(0, 255, (4, 480, 640, 3), np.uint8)
    out = []
    for offset, number in enumerate(numbers):
        names = [""] if number == 1 else [f"camera{index}" for index in range(number)]
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "frames.npy", frames)
            result = _run(Path(folder), model, threads, names, seconds, concurrent_looks, domain_of_its_own(offset))
        out.append(summary(result, number, MAX_AGE_S))
    return out


def summary(result: dict[str, Any], number: int, max_age_s: float) -> dict[str, Any]:
    """The figures of what a probe printed; pure."""
    samples = {camera: np.array(values).reshape(-1, 3) for camera, values in result["samples_s"].items()}
    rates = {camera: len(values) / result["seconds"] for camera, values in samples.items()}
    published_s, received_s, engine_s = np.concatenate(list(samples.values())).T
    return {
        "cameras": number,
        "cpu_percent": round(100 * result["cpu_s"] / result["seconds"], 1),
        "sent_hz": round(min(result["sent"].values()) / result["seconds"], 2),
        "answered_hz": {camera: round(rate, 2) for camera, rate in rates.items()},
        "least_of_most": round(min(rates.values()) / max(rates.values()), 3),
        "age_published_ms": percentiles(published_s * 1e3),
        "age_received_ms": percentiles(received_s * 1e3),
        "engine_ms": percentiles(engine_s * 1e3),
        "oldest_published_ms": round(float(published_s.max()) * 1e3, 1),
        "max_age_ms": round(max_age_s * 1e3, 1),
        "published_too_late": int((published_s > max_age_s).sum()),
        # The age in a message is that which the node itself judged by; this one is measured by somebody else.
        "received_too_late": int((received_s > max_age_s).sum()),
        "oldest_received_ms": round(float(received_s.max()) * 1e3, 1),
        "answers": len(published_s),
    }


def rows(results: list[dict[str, Any]]) -> list[str]:
    """Lines of a table for the documentation; see `HEAD`."""
    lines = []
    for r in results:
        rates = " ".join(f"{rate:g}" for rate in r["answered_hz"].values())
        age, engine = r["age_published_ms"], r["engine_ms"]
        lines.append(
            f"| {r['cameras']} | {r['cpu_percent']} % | {r['sent_hz']} | {rates} | {age['p50']} / {age['p95']} | "
            f"{engine['p50']} / {engine['p95']} | {r['oldest_received_ms']} | {r['received_too_late']} |"
        )
    return lines


HEAD = (
    "| cameras | CPU of the node | images per camera, Hz | answered, Hz | age when published p50 / p95 ms | "
    "engine p50 / p95 ms | oldest received ms | received later than max_age |\n|---|---|---|---|---|---|---|---|"
)


def _run(
    folder: Path,
    model: Path,
    threads: int,
    names: list[str],
    seconds: float,
    concurrent_looks: int,
    environment: dict[str, str],
) -> dict[str, Any]:
    tasks = folder / "tasks.yaml"
    tasks.write_text("all: {kind: count, camera: '*'}\n")
    values: dict[str, Any] = {
        "autostart": "true", "model": model, "tasks_file": tasks, "threads": threads, "max_age_s": MAX_AGE_S,
        "concurrent_looks": concurrent_looks,
    }  # fmt: skip
    if names == [""]:
        values["image_topic"] = "/probe/image_raw"
    else:
        values["cameras"] = "[" + ",".join(names) + "]"
        values |= {f"{name}.image_topic": f"/probe/{name}/image_raw" for name in names}
    with Child("perception", node_arguments("/exaone", values), folder / "perception.log", environment) as node:
        probe = ["--frames", str(folder / "frames.npy"), "--cameras", ",".join(names), "--rate", str(RATE_HZ)]
        probe += ["--seconds", str(seconds), "--pid", str(node.process.pid), "--timeout", str(STARTUP_S)]
        with Child("cameras_probe", probe, folder / "probe.log", environment) as child:
            if child.process.wait() != 0:
                raise ExaoneError(
                    f"not all of {len(names)} cameras were answered; the probe's log:\n{child.tail()}\n"
                    f"perception's log:\n{node.tail()}"
                )
            return dict(json.loads(child.tail(1)))


def main(arguments: list[str]) -> int:
    """`python -m exaone_ros.bench cameras`: this measurement alone; a table and one JSON line."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench cameras", description=__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--numbers", type=int, nargs="+", default=list(NUMBERS))
    parser.add_argument("--concurrent-looks", type=int, default=1)
    options = parser.parse_args(arguments)
    model = options.model or share_path("models/exaone4_5-tabletop-tiny")
    results = measure(model, options.threads, options.seconds, tuple(options.numbers), options.concurrent_looks)
    print(HEAD, *rows(results), json.dumps({"cameras": results}), sep="\n")
    return 0
