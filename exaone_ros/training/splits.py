"""Which frames are for training and which are for judging: seeds that never meet, and pairs that are never shown."""

from __future__ import annotations

SPLITS = ("train", "validation", "test", "heldout")
SEEDS_PER_SPLIT = 1_000_000_000

HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset({("purple", "mug"), ("orange", "cylinder"), ("white", "cube")})
"""(colour, shape) pairs that no training frame shows, by either renderer: they tell whether colour and shape were
learned apart. Frames of the split "heldout" show only these; validation and test show none of them."""


LOOKED_AT_FROM = 500_000_000
"""Index of the first validation frame that a training run looks at to stop early; what is measured on the validation
split for other ends (calibration, drafts, precision) takes frames from 0 on, so that the two never share one."""


def frame_seed(split: str, index: int) -> int:
    """The renderer's seed of frame `index` of a split; no two splits share one.

    Raises:
        ValueError: an unknown split or an index out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {SPLITS}")
    if not 0 <= index < SEEDS_PER_SPLIT:
        raise ValueError(f"frame index is {index}; expected 0 to {SEEDS_PER_SPLIT - 1}")
    return SPLITS.index(split) * SEEDS_PER_SPLIT + index


def split_of(seed: int) -> str:
    """The split that a seed belongs to."""
    return SPLITS[seed // SEEDS_PER_SPLIT]
