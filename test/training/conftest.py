"""Frames and a model small enough for tests; without torch and transformers nothing here is collected."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from exaone_ros.sim.frame import LabelledFrame
    from exaone_ros.training.trainer import TrainOptions

NEEDED = ("torch", "transformers", "tokenizers", "cv2")
collect_ignore_glob = [] if all(importlib.util.find_spec(module) for module in NEEDED) else ["test_*.py"]


@pytest.fixture(scope="session")
def flat_frames() -> list[LabelledFrame]:
    """A dozen training frames of the flat renderer at 252 x 336."""
    from exaone_ros.training.flat_renderer import FlatOptions, FlatRenderer
    from exaone_ros.training.splits import HELD_OUT_PAIRS, frame_seed

    renderer = FlatRenderer(336, 252)
    return [renderer.render(frame_seed("train", i), FlatOptions(exclude_pairs=HELD_OUT_PAIRS)) for i in range(12)]


@pytest.fixture
def tiny_run(tmp_path: Path) -> TrainOptions:
    """Twenty steps of a tiny model on small images, in this process."""
    from exaone_ros.training.data import DataOptions
    from exaone_ros.training.trainer import TrainOptions

    from .tiny import TINY

    data = DataOptions(batch=4, length=96, sizes=((84, 112), (56, 84)), easy_frames=0)
    return TrainOptions(
        directory=tmp_path / "run", steps=20, data=data, sizes=TINY, warm_up=2, workers=0, threads=1, save_minutes=60
    )
