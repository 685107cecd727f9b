"""Fill a frame pool with MuJoCo renders of training seeds (see `pool`)."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from exaone_ros.sim.sampling import SceneOptions
from exaone_ros.training.changed_scenes import Strange, StrangeRenderer, training_change
from exaone_ros.training.pool import VALIDATION_POOL, write_shard
from exaone_ros.training.splits import HELD_OUT_PAIRS, LOOKED_AT_FROM, RENDERED_FROM, few_kinds, frame_seed
from exaone_ros.training.truth import resize_frame

FRAMES_PER_SHARD = 50
RENDER_SIZES = {
    (252, 336): ((640, 480), (504, 378), (336, 252)),
    (196, 364): ((640, 360), (364, 196)),
    (280, 280): ((420, 420), (280, 280)),
    (336, 252): ((480, 640), (252, 336)),
    (364, 196): ((360, 640), (196, 364)),
    (168, 448): ((1280, 480), (448, 168)),
}
"""Model size (height, width) -> camera sizes (width, height); a shard is rendered at one of them."""

NUMBERS = ((0, 10), (0, 10), (0, 4), (5, 10))
"""Fewest and most objects of a frame, one as likely as the other: six to nine were the totals it still got wrong when
three frames in ten had at most four and the others any number."""

SIZE_OF_SHARD = (
    (252, 336), (252, 336), (196, 364), (252, 336), (280, 280), (336, 252), (252, 336), (196, 364), (364, 196),
    (252, 336), (336, 252), (168, 448),
)  # fmt: skip
"""Model sizes of one shard after the other, over and over."""

CHANGED_SHARE = 0.4
"""Of the training shards: rendered with a change of `changed_scenes.training_change`."""


def training_options(rng: np.random.Generator) -> SceneOptions:
    """Scene options of one training shard: the defaults, and wider ones in between."""
    wide = rng.random() < 0.4
    return SceneOptions(
        exclude_pairs=HELD_OUT_PAIRS,
        objects=NUMBERS[int(rng.integers(len(NUMBERS)))],
        fovy_deg=(45.0, 75.0) if wide else (45.0, 50.0),
        ambient_share=0.25,
        camera_jitter=1.5 if wide else 1.0,
        include_pairs=few_kinds(rng),
    )


def shard_seeds(split: str, shard: int) -> list[int]:
    """Seeds of the frames of a shard of the split "train" or "validation"."""
    first = shard * FRAMES_PER_SHARD + (LOOKED_AT_FROM if split == "validation" else RENDERED_FROM)
    return [frame_seed(split, first + i) for i in range(FRAMES_PER_SHARD)]


def render_shard(path: Path, shard: int, size: tuple[int, int], split: str = "train") -> None:
    """Render shard number `shard` of a split at a model size (height, width) and write it."""
    rng = np.random.default_rng([20 if split == "train" else 21, shard])
    sizes = RENDER_SIZES[size]
    width, height = sizes[int(rng.integers(len(sizes)))] if rng.random() < 0.5 else sizes[-1]
    samples = 0 if width > size[1] else 4
    frames = []
    shadows = bool(rng.random() < 0.75)
    changed = split == "train" and rng.random() < CHANGED_SHARE
    change = training_change(rng) if changed else Strange()
    strange = replace(change, width=width, height=height)
    with StrangeRenderer(strange, shadows=shadows, samples=samples) as renderer:
        for seed in shard_seeds(split, shard):
            options = training_options(rng)
            frames.append(resize_frame(renderer.render_strange(seed, options), *size))
    write_shard(path, frames)


def fill_pool(
    directory: Path,
    frames: int,
    advance: Callable[[int], object] = lambda count: None,
    *,
    validation: int = 0,
    workers: int = 1,
) -> None:
    """Render until the pool has `frames` training frames; shards that exist are kept.

    Args:
        directory: of the pool.
        frames: of training seeds, rounded up to whole shards.
        advance: is told of frames done.
        validation: frames of validation seeds in the pool's folder for them, rounded up likewise.
        workers: processes that render; 1 = this one.
    """
    wanted = [("train", directory, shard) for shard in range(-(-frames // FRAMES_PER_SHARD))]
    wanted += [
        ("validation", directory / VALIDATION_POOL, shard) for shard in range(-(-validation // FRAMES_PER_SHARD))
    ]
    missing = []
    for split, folder, shard in wanted:
        path = folder / f"shard-{shard:04d}.npz"
        if path.exists():
            advance(FRAMES_PER_SHARD)
        else:
            missing.append((path, shard, SIZE_OF_SHARD[shard % len(SIZE_OF_SHARD)], split))
    if workers <= 1:
        for arguments in missing:
            render_shard(*arguments)
            advance(FRAMES_PER_SHARD)
        return
    context = multiprocessing.get_context("spawn")  # OpenGL does not survive a fork
    with ProcessPoolExecutor(workers, mp_context=context) as processes:
        try:
            for done in as_completed([processes.submit(render_shard, *arguments) for arguments in missing]):
                done.result()
                advance(FRAMES_PER_SHARD)
        finally:  # where a shard failed or somebody interrupts, the shards that nobody began stay undone
            processes.shutdown(cancel_futures=True)
