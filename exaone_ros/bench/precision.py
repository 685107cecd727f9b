"""What each precision costs in accuracy: `python -m exaone_ros.bench precision`.

The same held-out frames and questions for every precision, through the engine on ONNX Runtime. Half precision is
emulated: computed in float32 and rounded after every operator; quantised weights are those that the engines would hold.
So the table is about numbers, not about kernels: speed is not measured here.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from exaone_ros.engine.calibration import calibrate
from exaone_ros.engine.engine import Engine
from exaone_ros.engine.tensorrt.memory import decoder_weight_bytes
from exaone_ros.engine.token_table import TokenTable
from exaone_ros.errors import ExaoneError
from exaone_ros.model.awq import InputScales
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import FLOAT32, PRECISIONS, Precision, WeightFormat
from exaone_ros.model.precision import precision as precision_named
from exaone_ros.share import share_path
from exaone_ros.sim.frame import LabelledFrame
from exaone_ros.training.evaluate import Answering, Examiner, mujoco_frames
from exaone_ros.training.page import replace_between

SCALED = "+scales"
"""Ends the name of a variant whose weights were rounded with AWQ-style scales."""
VARIANTS = ("float32", "float16", "bfloat16", "int8", "int4", "int4" + SCALED, "int4-bfloat16", "fp8", "nvfp4")
KINDS = {"name": 2, "list": 1, "count": 1, "count_kind": 1, "way": 1}
FIGURES = {
    "list_f1": "list F1",
    "ground_one_over_50": "one object found (IoU 0.5)",
    "ground_one_iou": "its IoU",
    "count_all": "count of all",
    "count_kind": "count of a kind",
    "decide_way": "way clear",
}
BEGIN, END = "<!-- written by `python -m exaone_ros.bench precision` -->", "<!-- end of what it wrote -->"
SLOTS, CONTEXT = 8, 1024


class Recorder:
    """Passes questions on to an engine and keeps the text of every answer."""

    def __init__(self, engine: Answering) -> None:
        self._engine = engine
        self.texts: list[str] = []

    def answer(self, frame: NDArray[np.uint8], tasks: Sequence[Any]) -> Any:
        found = self._engine.answer(frame, tasks)
        self.texts += [answer.text for answer in found.answers]
        return found


def open_engine(checkpoint: Checkpoint, precision: Precision, scales: InputScales | None, threads: int) -> Engine:
    """The engine of a checkpoint, its numbers rounded as in a precision."""
    directory, config = checkpoint.directory, checkpoint.config
    backend = OnnxRuntimeBackend(
        directory, slots=SLOTS, context=CONTEXT, threads=threads, precision=precision, scales=scales
    )
    prompts = PromptEncoder.open(directory, config)
    table = TokenTable.open(directory, config.text.vocab, config.eos_tokens)
    return Engine(backend, prompts, table, config.image_token)


def measure(
    model: Path,
    frames: Sequence[LabelledFrame],
    calibration: Sequence[NDArray[np.uint8]],
    variants: Sequence[str] = VARIANTS,
    threads: int = 1,
    kinds: dict[str, int] = KINDS,
    progress: Callable[[str], None] = lambda variant: None,
) -> dict[str, dict[str, Any]]:
    """Ask the same questions in every precision.

    Args:
        model: checkpoint directory with plain weights.
        frames: with their truth.
        calibration: frames of other scenes, uint8 RGB [H, W, 3], for the variants with scales.
        variants: names of precisions, with `SCALED` behind those that take scales; float32 is always measured, first.
        threads: of the computation.
        kinds: of questions, and how many of each on a frame.
        progress: told each variant that is done.

    Returns:
        By variant: "figures" (see `Examiner`), "decoder_mb", "same_answers" (share equal to float32's), "answers".

    Raises:
        ExaoneError: an unknown variant, or scales for weights that are plain.
    """
    checkpoint = Checkpoint.open(model)
    chosen = {name: _parse(name) for name in dict.fromkeys((FLOAT32.name, *variants))}
    results: dict[str, dict[str, Any]] = {}
    exact: list[str] = []
    for name, (precision, scaled) in chosen.items():
        scales = calibrate(checkpoint, precision, calibration, threads=threads) if scaled else None
        with open_engine(checkpoint, precision, scales, threads) as engine:
            recorder = Recorder(engine)
            figures = Examiner(recorder).examine(frames, kinds=kinds)
        exact = exact or recorder.texts
        same = [a == b for a, b in zip(recorder.texts, exact, strict=True)]
        results[name] = {
            "figures": figures,
            "decoder_mb": decoder_weight_bytes(checkpoint.config.text, precision) / 1e6,
            "same_answers": float(np.mean(same)),
            "answers": len(same),
        }
        gc.collect()  # an engine holds its graphs until then
        progress(name)
    return results


def _parse(variant: str) -> tuple[Precision, bool]:
    """Precision of a variant, and whether it takes scales."""
    name, scaled = variant.removesuffix(SCALED), variant.endswith(SCALED)
    if name not in PRECISIONS:
        raise ExaoneError(f"precision is {name!r}; expected one of {', '.join(PRECISIONS)}, with or without {SCALED}")
    precision = precision_named(name)
    if scaled and precision.weights is WeightFormat.PLAIN:
        raise ExaoneError(f"precision '{name}' quantises nothing: there is nothing to scale; leave {SCALED} out")
    return precision, scaled


def markdown(results: dict[str, dict[str, Any]], frames: int) -> str:
    """The table for docs/tensorrt.md; pure."""
    shown = {key: title for key, title in FIGURES.items() if any(key in r["figures"] for r in results.values())}
    head = ["precision", "decoder weights", "answers as in float32", *shown.values()]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, result in results.items():
        cells = [name, f"{result['decoder_mb']:.1f} MB", f"{result['same_answers']:.1%}"]
        for key in shown:
            entry = result["figures"].get(key)
            cells.append(f"{entry['value']:.3f} ± {entry['interval']:.3f}" if entry else "")
        lines.append("| " + " | ".join(cells) + " |")
    answers = max(result["answers"] for result in results.values())
    note = (
        f"{frames} frames of the simulated head camera (validation seeds, 640x480), {answers} questions, greedy, under "
        "the grammar; ± half of the 95% interval."
    )
    return "\n".join([*lines, "", note])


def write_between(path: Path, text: str) -> None:
    """Put the table into a page, between the two marks.

    Raises:
        ExaoneError: the page has no such marks.
    """
    replace_between(path, BEGIN, END, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench precision", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench_out"))
    parser.add_argument("--docs", type=Path, help="page to write the table into (docs/tensorrt.md)")
    parser.add_argument("--model", type=Path, help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--frames", type=int, default=100, help="validation frames")
    parser.add_argument("--calibration-frames", type=int, default=16, help="training frames for the scales")
    parser.add_argument("--precisions", nargs="+", default=list(VARIANTS), metavar="NAME", help=f"with {SCALED} or not")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    model = options.model or share_path("models/exaone4_5-tabletop-tiny")
    console = Console()
    try:
        with Progress(console=console) as progress:
            bar = progress.add_task("rendering", total=options.frames + options.calibration_frames)
            frames, calibration = [], []
            for frame in mujoco_frames("validation", options.frames):
                frames.append(frame)
                progress.advance(bar)
            for frame in mujoco_frames("train", options.calibration_frames):
                calibration.append(frame.image)
                progress.advance(bar)
            bar = progress.add_task("precisions", total=len(options.precisions))
            results = measure(
                model,
                frames,
                calibration,
                options.precisions,
                options.threads,
                progress=lambda name: progress.advance(bar),
            )
        text = markdown(results, options.frames)
        if options.docs:
            write_between(options.docs, text)
    except ExaoneError as error:
        console.print(f"error: {error}", markup=False)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "precision.json").write_text(json.dumps({"frames": options.frames, "precisions": results}, indent=1))
    print(text)  # the console would break the table's lines
    return 0
