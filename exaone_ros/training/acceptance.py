"""What drafts are worth: decode steps of an answer with and without them, through the engine, on frames not trained on.

Each frame is shown three times, as a camera that stands still shows it: as rendered, and twice with sensor noise of
its own. That is what drafting from the last answer lives on; the MTP layer does not care.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.engine import Engine
from exaone_ros.engine.speculation import Speculation
from exaone_ros.tasks import Count, Decide, Ground, Task

SETTINGS: dict[str, Speculation | None] = {
    "none": None,
    "mtp 1": Speculation(mtp=1),
    "mtp 2": Speculation(mtp=2),
    "mtp 3": Speculation(mtp=3),
    "previous 8": Speculation(previous=8),
    "previous 32": Speculation(previous=32),
    "previous 16, mtp 2": Speculation(previous=16, mtp=2),
}
SHOWN = 3
NOISE_LEVELS = 2.0
"""Standard deviation of the noise between two looks, in grey levels."""

TASKS: tuple[Task, ...] = (
    Ground(name="objects"),
    Count(name="count"),
    Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked", "person")),
)


@dataclass(frozen=True)
class Worth:
    """What one setting did.

    Attributes:
        answers: how many.
        same: of them, those with the same text as without drafts.
        steps: decode steps of an answer, on average; its prompt's own step is not among them.
        tokens: tokens of an answer, on average.
        drafted: guesses of an answer, on average.
        accepted: share of the guesses that came true, 0..1; 0 where nothing was guessed.
        answer_ms: time of an answer on a frame that was looked at, on average.
    """

    answers: int
    same: int
    steps: float
    tokens: float
    drafted: float
    accepted: float
    answer_ms: float


def measure(
    model: Path,
    images: Iterable[NDArray[np.uint8]],
    settings: Sequence[str] = tuple(SETTINGS),
    backend: str = "onnxruntime",
    threads: int = 0,
    on_setting: Callable[[str], None] = lambda name: None,
) -> dict[str, Worth]:
    """Ask the standing questions about every image, each question alone, under every setting.

    Args:
        model: checkpoint directory.
        images: uint8 RGB [H, W, 3] each.
        settings: names in SETTINGS; "none" is always measured, and first.
        backend: of the engine.
        threads: of the backend; 0 = one for each core.
        on_setting: is told the name of each setting that is begun.

    Raises:
        CheckpointError: the checkpoint cannot be used, or has no MTP layer where a setting asks for one.
        EngineError: the backend has no MTP layer.
    """
    rng = np.random.default_rng(0)
    frames = [frame for image in images for frame in _looks(image, rng)]
    told: dict[str, list[str]] = {}
    worth: dict[str, Worth] = {}
    for name in ("none", *(name for name in settings if name != "none")):
        on_setting(name)
        texts: list[str] = []
        steps = tokens = drafted = accepted = 0
        spent_s = 0.0
        with Engine.open(model, backend, slots=2, threads=threads, speculation=SETTINGS[name]) as engine:
            for frame in frames:
                with engine.look(frame) as looked:
                    for task in TASKS:
                        began_s = time.perf_counter()
                        found = engine.answer(looked, [task])
                        spent_s += time.perf_counter() - began_s
                        texts.append(found.answers[0].text)
                        steps += found.timings.decode_steps
                        tokens += found.answers[0].tokens
                        drafted += found.timings.tokens_drafted
                        accepted += found.timings.drafts_accepted
        told[name] = texts
        count = len(texts)
        same = sum(a == b for a, b in zip(texts, told["none"], strict=True))
        share = accepted / drafted if drafted else 0.0
        worth[name] = Worth(count, same, steps / count, tokens / count, drafted / count, share, 1e3 * spent_s / count)
    return worth


def _looks(image: NDArray[np.uint8], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """The image, and the same view with other noise."""
    noisy = [image + rng.normal(0, NOISE_LEVELS, image.shape) for _ in range(SHOWN - 1)]
    return [image, *(np.clip(np.rint(view), 0, 255).astype(np.uint8) for view in noisy)]


def markdown(worth: dict[str, Worth]) -> str:
    """A table with a row for each setting."""
    lines = [
        "| drafts | decode steps an answer | tokens an answer | guesses an answer | accepted | same answers | ms |",
        "|---" * 7 + "|",
    ]
    for name, w in worth.items():
        lines.append(
            f"| {name} | {w.steps:.1f} | {w.tokens:.1f} | {w.drafted:.1f} | {w.accepted:.0%} | {w.same} of {w.answers} "
            f"| {w.answer_ms:.1f} |"
        )
    return "\n".join(lines)
