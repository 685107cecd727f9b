"""Three questions on one frame: this package against `transformers` `generate()`, frame by frame in turn.

Both run in one go on the same frames, A B A B ..., so that a slow moment of the machine hits both, and each is timed
while it is at work, as behind a camera: right after another frame of its own. Times are taken on
camera frames of 640x480, which each side resizes in its own way (OpenCV's area here, Pillow's bicubic there: half a
grey level apart). Whether the answers are the same is checked on the same pixels: the frames resized beforehand.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.bench.worker import STANDING, questions
from exaone_ros.errors import ExaoneError
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.preprocess import PreprocessConfig, smart_resize
from exaone_ros.tasks import Task
from exaone_ros.tasks.evidence import Decoded
from exaone_ros.training.splits import frame_seed
from exaone_ros.view.tally import percentiles

SETTLE_S = 0.25
"""Before each frame: the threads of the other side spin for a while before they sleep."""


class Contestant:
    """A worker process."""

    def __init__(self, name: str, model: Path, frames: Path, threads: int, number: int) -> None:
        self.name = name
        command = [sys.executable, "-m", "exaone_ros.bench.worker", name]
        command += ["--model", str(model), "--frames", str(frames), "--threads", str(threads)]
        command += ["--questions", str(number)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def frame(self, index: int, resized: bool = False) -> dict[str, Any]:
        """Let it answer one frame, as the camera gives it or resized beforehand."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"frame": index, "resized": resized}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ExaoneError(f"the benchmark worker '{self.name}' ended with code {self._process.wait()}; see above")
        return dict(json.loads(line))


def measure(
    model: Path,
    frame_count: int,
    threads: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    number: int = STANDING,
) -> dict[str, Any]:
    """Time both contestants on the same held-out frames of the simulated head camera (640x480).

    Args:
        model: checkpoint directory.
        frame_count: frames that are timed.
        threads: of each side.
        progress: told after each frame.
        number: of questions on each frame, 3 to 10.

    Returns:
        ours_ms and transformers_ms (median per frame of all questions), ratio (median of the ratios frame by
        frame), same_answers (whether every answer of `transformers` that obeys its schema has the same text here;
        without a grammar it may also write what no schema allows), stages and peak memory.
    """
    from exaone_ros.sim.tabletop import TabletopRenderer

    renderer = TabletopRenderer(640, 480)
    images = np.stack([renderer.render(frame_seed("test", i)).image for i in range(frame_count)])
    with tempfile.TemporaryDirectory() as directory:
        frames = Path(directory) / "frames.npy"
        np.save(frames, images)
        np.save(frames.with_suffix(".resized.npy"), resized(model, images))
        contestants = [Contestant(name, model, frames, threads, number) for name in ("ours", "transformers")]
        try:
            for contestant in contestants:
                contestant.frame(0)  # the first call allocates and compiles; nobody's first frame counts
            results: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for i in range(frame_count):
                for contestant in contestants:
                    time.sleep(SETTLE_S)
                    same_pixels = contestant.frame(i, resized=True)["answers"]  # not timed: it ends the pause's cold
                    reply = contestant.frame(i) | {"same_pixels": same_pixels}
                    results[contestant.name].append(reply)
                progress(i + 1, frame_count)
        finally:
            for contestant in contestants:
                contestant.close()
    return figures(results["ours"], results["transformers"], number)


def figures(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], number: int = STANDING) -> dict[str, Any]:
    """The table's figures from the replies of both to so many questions a frame."""
    ratios = [b["ms"] / a["ms"] for a, b in zip(ours, theirs, strict=True)]
    pairs = _pairs(ours, theirs, "same_pixels")
    typed = [pair for pair, task in zip(pairs, questions(number) * len(ours), strict=True) if _obeys(task, pair[1])]
    same = sum(x == y for x, y in typed)
    own_resize = [x == y for x, y in _pairs(ours, theirs, "answers")]
    stages: dict[str, list[float]] = defaultdict(list)
    for entry in ours:
        for stage, milliseconds in entry["stages_ms"].items():
            stages[stage].append(milliseconds)
    return {
        "ours_ms": round(float(np.median([entry["ms"] for entry in ours])), 2),
        "transformers_ms": round(float(np.median([entry["ms"] for entry in theirs])), 2),
        "ratio": round(float(np.median(ratios)), 2),
        "ratio_min": round(min(ratios), 2),
        "same_answers": same == len(typed),
        "answers_asked": len(pairs),
        "answers_compared": len(typed),
        "answers_equal": same,
        "answers_equal_own_resize": sum(own_resize),
        "different": [pair for pair in typed if pair[0] != pair[1]][:5],
        "untyped": [pair[1] for pair in pairs if pair not in typed][:5],
        "frames": len(ours),
        "questions": number,
        "stages_ms": {stage: percentiles(values) for stage, values in stages.items()},
        "peak_memory_mb": {
            "ours": round(max(entry["peak_mb"] for entry in ours)),
            "transformers": round(max(entry["peak_mb"] for entry in theirs)),
        },
    }


def resized(model: Path, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frames in the size that the checkpoint's rule gives them, so that nobody resizes them any more."""
    config = ModelConfig.read(model)
    rule = PreprocessConfig.read(model, config.vision)
    height, width = smart_resize(rule, *images.shape[1:3])
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images])


def _obeys(task: Task, text: str) -> bool:
    """Whether a text is an answer under the task's schema."""
    try:
        task.read(Decoded(text), 640, 480)
    except ExaoneError:
        return False
    return True


def _pairs(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], key: str) -> list[tuple[str, str]]:
    return [(x, y) for a, b in zip(ours, theirs, strict=True) for x, y in zip(a[key], b[key], strict=True)]
