"""One contestant in a process of its own, so that its peak memory is its own.

Reads one JSON command a line from stdin and answers with one JSON line on stdout; the end of input ends it:
`{"frame": i, "resized": false}` -> `{"ms": ..., "answers": [...], "stages_ms": {...}, "peak_mb": ...}`
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.tasks import SYSTEM, Count, Decide, Ground, Task

Answerer = Callable[[NDArray[np.uint8]], tuple[list[str], dict[str, float]]]


STANDING = 3


def questions(number: int = STANDING) -> list[Task]:
    """The three standing questions of the demo (where is everything, how many, is the way clear), or more of the kind.

    Args:
        number: 3 to 10; the others ask for single kinds of things.
    """
    kinds = ("cubes", "balls", "cylinders", "mugs")
    return [
        Ground(name="objects"),
        Count(name="all"),
        Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked", "person")),
        *(Count(name=kind, label=kind) for kind in kinds),
        *(Ground(name=f"{colour} cube", classes=(f"{colour} cube",)) for colour in ("red", "green", "blue")),
    ][:number]


def ours(model: Path, threads: int, tasks: list[Task]) -> Answerer:
    """The engine of this package with its default backend."""
    from exaone_ros.engine.engine import Engine

    engine = Engine.open(model, backend="onnxruntime", threads=threads, slots=max(8, len(tasks) + 2))

    def answer(image: NDArray[np.uint8]) -> tuple[list[str], dict[str, float]]:
        result = engine.answer(image, tasks)
        return [entry.text for entry in result.answers], result.timings.milliseconds()

    return answer


def transformers_generate(model: Path, threads: int, tasks: list[Task]) -> Answerer:
    """`transformers` as its documentation shows it: processor outputs into `generate()`, one question at a time.

    The image processor and the tokenizer are used directly instead of through `AutoProcessor`, which asks for
    torchvision; the work that they do is the same.
    """
    import torch
    from transformers import AutoTokenizer, Exaone4_5_ForConditionalGeneration, Qwen2VLImageProcessor

    torch.set_num_threads(threads)
    network = Exaone4_5_ForConditionalGeneration.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    processor = Qwen2VLImageProcessor.from_pretrained(model)

    def answer(image: NDArray[np.uint8]) -> tuple[list[str], dict[str, float]]:
        texts = []
        for task in tasks:
            messages: Any = [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": task.prompt()}]},
            ]
            prompt = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            pixels = processor(images=[image], return_tensors="pt")
            tokens = int(pixels["image_grid_thw"].prod()) // processor.merge_size**2
            pad = "<|image_pad|>"
            inputs = tokenizer(str(prompt).replace(pad, pad * tokens), return_tensors="pt", add_special_tokens=False)
            with torch.inference_mode():
                out = network.generate(
                    **inputs, **pixels, do_sample=False, max_new_tokens=400, pad_token_id=tokenizer.pad_token_id
                )
            answer_ids = out[0, inputs["input_ids"].shape[1] :]
            texts.append(str(tokenizer.decode(answer_ids, skip_special_tokens=True)))
        return texts, {}

    return answer


@ends_with_its_reader
def main() -> None:
    """Serve commands until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contestant", choices=["ours", "transformers"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--frames", type=Path, required=True, help=".npy, uint8 [N, H, W, 3]; .resized.npy beside it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--questions", type=int, default=STANDING)
    arguments = parser.parse_args()
    frames = {False: np.load(arguments.frames), True: np.load(arguments.frames.with_suffix(".resized.npy"))}
    make = {"ours": ours, "transformers": transformers_generate}[arguments.contestant]
    answer = make(arguments.model, arguments.threads, questions(arguments.questions))
    reply({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        image = frames[command["resized"]][command["frame"]]
        start = time.perf_counter()
        answers, stages_ms = answer(image)
        milliseconds = (time.perf_counter() - start) * 1e3
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        reply({"ms": milliseconds, "answers": answers, "stages_ms": stages_ms, "peak_mb": peak_mb})


def reply(data: dict[str, Any]) -> None:
    """One JSON line to stdout."""
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
