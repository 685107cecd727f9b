"""Frames for training and frames for judging never meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exaone_ros.sim.vocabulary import COLOURS, SHAPES
from exaone_ros.training.splits import HELD_OUT_PAIRS, SEEDS_PER_SPLIT, SPLITS, frame_seed, split_of

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
