"""Frames for training and frames for judging never meet."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.sim.vocabulary import COLOURS, SHAPES
from exaone_ros.training import prerender
from exaone_ros.training.prerender import FRAMES_PER_SHARD, shard_seeds
from exaone_ros.training.splits import (
    ALIKE_SHARE,
    HELD_OUT_PAIRS,
    LOOKED_AT_FROM,
    RENDERED_FROM,
    SEEDS_PER_SPLIT,
    SPLITS,
    STRESSED_FROM,
    few_kinds,
    frame_seed,
    split_of,
)

indexes = st.integers(0, SEEDS_PER_SPLIT - 1)


@given(st.sampled_from(SPLITS), indexes, st.sampled_from(SPLITS), indexes)
def test_two_frames_share_a_seed_only_if_they_are_the_same(split: str, i: int, other: str, j: int) -> None:
    assert (frame_seed(split, i) == frame_seed(other, j)) == ((split, i) == (other, j))


@given(st.sampled_from(SPLITS), indexes)
def test_a_seed_tells_its_split(split: str, index: int) -> None:
    assert split_of(frame_seed(split, index)) == split


@pytest.mark.parametrize(("split", "index"), [("dev", 0), ("train", -1), ("train", SEEDS_PER_SPLIT)])
def test_what_is_no_frame_is_refused(split: str, index: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        frame_seed(split, index)


def test_every_colour_and_shape_of_a_held_out_pair_is_trained_otherwise() -> None:
    assert len(HELD_OUT_PAIRS) == 3
    for colour, shape in HELD_OUT_PAIRS:
        assert colour in COLOURS
        assert shape in SHAPES
    assert len({colour for colour, _ in HELD_OUT_PAIRS}) == len({shape for _, shape in HELD_OUT_PAIRS}) == 3


def test_a_shard_that_fails_ends_the_rendering_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = [], threading.Event()

    def render(path: Path, shard: int, size: tuple[int, int], split: str) -> None:
        begun.append(shard)
        if shard == 0:
            raise OSError("no display")
        ended.wait(60)

    class Threads(ThreadPoolExecutor):
        def __init__(self, workers: int, mp_context: object) -> None:
            super().__init__(workers)

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            ended.set()
            super().shutdown(wait)

    monkeypatch.setattr(prerender, "ProcessPoolExecutor", Threads)
    monkeypatch.setattr(prerender, "render_shard", render)
    with pytest.raises(OSError, match="no display"):
        prerender.fill_pool(tmp_path, 100 * FRAMES_PER_SHARD, workers=2)
    assert len(begun) < 10


def test_no_two_uses_share_a_frame() -> None:
    shards, frames = 400, 50_000
    uses = {
        "pool to learn from": {seed for shard in range(shards) for seed in shard_seeds("train", shard)},
        "flat frames to learn from": {frame_seed("train", i) for i in range(frames)},
        "pool to look at": {seed for shard in range(shards) for seed in shard_seeds("validation", shard)},
        "calibration, drafts, precision": {frame_seed("validation", i) for i in range(frames)},
        "stress": {frame_seed("validation", STRESSED_FROM + i) for i in range(frames)},
        "evaluation, benchmarks": {frame_seed("test", i) for i in range(frames)},
        "held-out pairs": {frame_seed("heldout", i) for i in range(frames)},
    }
    assert len(uses["pool to learn from"]) == shards * FRAMES_PER_SHARD
    assert len(set().union(*uses.values())) == sum(map(len, uses.values()))
    assert {split_of(seed) for seed in uses["pool to look at"]} == {"validation"}
    assert min(uses["pool to look at"]) == frame_seed("validation", LOOKED_AT_FROM)


def test_a_simulators_first_scene_is_no_training_frame() -> None:
    draws = [np.random.default_rng(seed).random() for seed in (7, [7, 0], [7, 1])]
    assert draws[0] == draws[1] != draws[2], "numpy pads with zeros: see RENDERED_FROM"
    assert min(shard_seeds("train", 0)) == RENDERED_FROM > 10_000_000


def test_some_training_frames_show_one_shape_or_one_colour() -> None:
    rng = np.random.default_rng(0)
    drawn = [few_kinds(rng) for _ in range(2000)]
    chosen = [pairs for pairs in drawn if pairs is not None]
    assert len(chosen) / len(drawn) == pytest.approx(ALIKE_SHARE, abs=0.03)
    for pairs in chosen:
        assert pairs and not pairs & HELD_OUT_PAIRS
        assert 1 in (len({colour for colour, _ in pairs}), len({shape for _, shape in pairs}))
