"""Which frames are for training and which are for judging: seeds that never meet, and pairs that are never shown."""

from __future__ import annotations

import numpy as np

from exaone_ros.sim.vocabulary import COLOURS, SHAPES

SPLITS = ("train", "validation", "test", "heldout")
SEEDS_PER_SPLIT = 1_000_000_000

HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset({("purple", "mug"), ("orange", "cylinder"), ("white", "cube")})
"""(colour, shape) pairs that no training frame shows, by either renderer: they tell whether colour and shape were
learned apart. Frames of the split "heldout" show only these; validation and test show none of them."""


ALIKE_SHARE = 0.2
"""Part of the training frames on which all objects have one shape or one colour: drawn from all pairs, four of a kind
are so rare that counting them is hardly ever asked."""

RENDERED_FROM = 100_000_000
"""Index of the first training frame that MuJoCo renders. numpy pads what it is seeded with by zeros: the simulator's
scene 0 of seed s, drawn from [s, 0], is drawn like the frame of seed s. So the seeds that people give a simulator stay
clear of training; the flat renderer begins at 0, its scenes have nothing in common with the simulator's."""

LOOKED_AT_FROM = 500_000_000
"""Index of the first validation frame that a training run looks at to stop early; what is measured on the validation
split for other ends (calibration, drafts, precision) takes frames from 0 on, so that the two never share one."""

STRESSED_FROM = 250_000_000
"""Index of the first validation frame that `stress` changes. What training draws is chosen by what breaks there: so it
shares no frame with what is measured on the others, nor with the test split."""


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


def few_kinds(rng: np.random.Generator) -> frozenset[tuple[str, str]] | None:
    """Pairs to choose from on a training frame: mostly all (None), now and then those of one shape or colour."""
    if rng.random() >= ALIKE_SHARE:
        return None
    if rng.random() < 0.5:
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        return frozenset((colour, shape) for colour in COLOURS) - HELD_OUT_PAIRS
    colour = COLOURS[int(rng.integers(len(COLOURS)))]
    return frozenset((colour, shape) for shape in SHAPES) - HELD_OUT_PAIRS


def split_of(seed: int) -> str:
    """The split that a seed belongs to."""
    return SPLITS[seed // SEEDS_PER_SPLIT]
