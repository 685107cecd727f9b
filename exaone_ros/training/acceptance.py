"""What drafts are worth: decode steps of an answer with and without them, through the engine, on frames not trained on.

Each frame is shown some times: as rendered, then with sensor noise of its own and, if asked for, moved sideways.
Drafting from the last answer lives on views that change little; the MTP layer does not care.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.engine import Engine
from exaone_ros.engine.speculation import Speculation
from exaone_ros.errors import CheckpointError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.tasks import Count, Decide, Ground, Task
from exaone_ros.training.measured import read_figures, write_figures

SETTINGS: dict[str, Speculation | None] = {
    "none": None,
    "mtp 1": Speculation(mtp=1),
    "mtp 2": Speculation(mtp=2),
    "mtp 3": Speculation(mtp=3),
    "ngram 4": Speculation(ngram=4),
    "previous 8": Speculation(previous=8),
    "previous 32": Speculation(previous=32),
    "previous 16, mtp 2": Speculation(previous=16, mtp=2),
}
LOOKS = 3
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
        cpu_ms: processor time of it, of all threads together: tells more than the time where the machine is shared.
    """

    answers: int
    same: int
    steps: float
    tokens: float
    drafted: float
    accepted: float
    answer_ms: float
    cpu_ms: float


@dataclass(frozen=True)
class WorthReport:
    """What `acceptance` measured.

    Attributes:
        worth: by the name of the setting.
        weights: fingerprint of the weights it was measured on; None where the file is of a time when none was written.
    """

    worth: dict[str, Worth]
    weights: str | None


def write_worth(path: Path, report: WorthReport) -> None:
    """Write the figures as JSON."""
    settings = {name: asdict(figures) for name, figures in report.worth.items()}
    write_figures(path, {"weights": report.weights, "settings": settings})


def read_worth(path: Path) -> WorthReport | None:
    """What `write_worth` wrote; None where there is no such file.

    Raises:
        CheckpointError: the file holds something else.
    """
    found = read_figures(path)
    if not found:
        return None
    try:
        settings = found.get("settings", found)  # older files are the settings alone
        worth = {name: Worth(**figures) for name, figures in settings.items()}
    except (TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no report of `acceptance` ({error}); measure again, or delete it") from error
    return WorthReport(worth, found.get("weights"))


def possible(model: Path) -> list[str]:
    """Names of the settings that a checkpoint can do: without an MTP layer some are left out."""
    if Checkpoint.open(model).has_mtp:
        return list(SETTINGS)
    return [name for name, setting in SETTINGS.items() if setting is None or not setting.mtp]


def measure(
    model: Path,
    images: Iterable[NDArray[np.uint8]],
    settings: Sequence[str] = tuple(SETTINGS),
    backend: str = "onnxruntime",
    threads: int = 0,
    looks: int = LOOKS,
    shift_px: int = 0,
    on_setting: Callable[[str], None] = lambda name: None,
) -> dict[str, Worth]:
    """Ask the standing questions about every image, each question alone, under every setting.

    Args:
        model: checkpoint directory.
        images: uint8 RGB [H, W, 3] each.
        settings: names in SETTINGS; "none" is always measured, and first.
        backend: of the engine.
        threads: of the backend; 0 = one for each core.
        looks: how often each image is shown; 1 = every view is a new one.
        shift_px: how far each look at a frame is moved sideways against the one before.
        on_setting: is told the name of each setting that is begun.

    Raises:
        CheckpointError: the checkpoint cannot be used, or has no MTP layer where a setting asks for one.
        EngineError: the backend has no MTP layer.
    """
    rng = np.random.default_rng(0)
    frames = [frame for image in images for frame in _looks(image, rng, looks, shift_px)]
    told: dict[str, list[str]] = {}
    worth: dict[str, Worth] = {}
    for name in ("none", *(name for name in settings if name != "none")):
        on_setting(name)
        texts: list[str] = []
        steps = tokens = drafted = accepted = 0
        spent_s = cpu_s = 0.0
        with Engine.open(model, backend, slots=2, threads=threads, speculation=SETTINGS[name]) as engine:
            for frame in frames:
                with engine.look(frame) as looked:
                    for task in TASKS:
                        began_s, cpu_began_s = time.perf_counter(), time.process_time()
                        found = engine.answer(looked, [task])
                        spent_s += time.perf_counter() - began_s
                        cpu_s += time.process_time() - cpu_began_s
                        texts.append(found.answers[0].text)
                        steps += found.timings.decode_steps
                        tokens += found.answers[0].tokens
                        drafted += found.timings.tokens_drafted
                        accepted += found.timings.drafts_accepted
        told[name] = texts
        count = len(texts)
        same = sum(a == b for a, b in zip(texts, told["none"], strict=True))
        share = accepted / drafted if drafted else 0.0
        times_ms = 1e3 * spent_s / count, 1e3 * cpu_s / count
        worth[name] = Worth(count, same, steps / count, tokens / count, drafted / count, share, *times_ms)
    return worth


def _looks(image: NDArray[np.uint8], rng: np.random.Generator, looks: int, shift_px: int) -> list[NDArray[np.uint8]]:
    """The image, and nearly the same view with other noise."""
    views = [np.roll(image, look * shift_px, axis=1) for look in range(1, looks)]
    noisy = [view + rng.normal(0, NOISE_LEVELS, image.shape) for view in views]
    return [image, *(np.clip(np.rint(view), 0, 255).astype(np.uint8) for view in noisy)]


def markdown(worth: dict[str, Worth]) -> str:
    """A table with a row for each setting."""
    lines = [
        "| drafts | decode steps an answer | tokens | guesses | accepted | same answers | ms | CPU ms |",
        "|---" * 8 + "|",
    ]
    for name, w in worth.items():
        lines.append(
            f"| {name} | {w.steps:.1f} | {w.tokens:.1f} | {w.drafted:.1f} | {w.accepted:.0%} | {w.same} of {w.answers} "
            f"| {w.answer_ms:.1f} | {w.cpu_ms:.1f} |"
        )
    return "\n".join(lines)
