"""The flat renderer: deterministic, any size, and labels that are exactly what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from exaone_ros.sim.frame import Box, LabelledFrame
from exaone_ros.training.flat_post import spoil
from exaone_ros.training.flat_renderer import FlatOptions, FlatRenderer
from exaone_ros.training.splits import HELD_OUT_PAIRS, frame_seed


def brute_force_box(mask: np.ndarray) -> Box:
    """The tight box, pixel by pixel."""
    points = [(x, y) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return float(min(xs)), float(min(ys)), float(max(xs) + 1), float(max(ys) + 1)


def test_boxes_are_tight_around_the_visible_pixels(flat_frames: list[LabelledFrame]) -> None:
    seen = 0
    for frame in flat_frames[:5]:
        for index, thing in enumerate(frame.objects):
            mask = frame.instance == index
            assert thing.box == brute_force_box(mask)
            assert thing.visible_px == mask.sum()
            seen += 1
    assert seen > 5


def test_objects_are_sorted_and_measured(flat_frames: list[LabelledFrame]) -> None:
    for frame in flat_frames:
        assert [o.box for o in frame.objects] == sorted(o.box for o in frame.objects)
        assert frame.instance.max(initial=-1) < len(frame.objects)
        for thing in frame.objects:
            assert 0 < thing.visible_fraction <= 1
            assert 0.2 < thing.distance_m < 2.5


def test_an_object_has_its_colour(flat_frames: list[LabelledFrame]) -> None:
    """Where an object is said to be, the image differs from what a colour-blind renderer would draw."""
    strong = {"red": 0, "green": 1, "blue": 2}
    checked = 0
    for frame in flat_frames:
        for index, thing in enumerate(frame.objects):
            if thing.colour in strong and thing.visible_px > 200:
                mean = frame.image[frame.instance == index].mean(0)
                assert int(np.argmax(mean)) == strong[thing.colour], (thing, mean)
                checked += 1
    assert checked > 3


@pytest.mark.parametrize(("width", "height"), [(336, 252), (364, 196), (280, 280), (640, 480)])
def test_any_size(width: int, height: int) -> None:
    frame = FlatRenderer(width, height).render(3)
    assert frame.image.shape == (height, width, 3)
    assert frame.image.dtype == np.uint8
    assert frame.instance.shape == (height, width)


def test_same_seed_same_frame() -> None:
    one, two = (FlatRenderer(336, 252).render(frame_seed("train", 9)) for _ in range(2))
    assert np.array_equal(one.image, two.image)
    assert one.objects == two.objects
    other = FlatRenderer(336, 252).render(frame_seed("train", 10))
    assert not np.array_equal(one.image, other.image)


def test_excluded_pairs_never_occur_and_included_ones_alone() -> None:
    renderer = FlatRenderer(168, 126)
    without, only = FlatOptions(exclude_pairs=HELD_OUT_PAIRS), FlatOptions(include_pairs=HELD_OUT_PAIRS)
    pairs = {(o.colour, o.shape) for seed in range(40) for o in renderer.render(seed, without).objects}
    assert len(pairs) > 20
    assert not pairs & HELD_OUT_PAIRS
    shown = {(o.colour, o.shape) for seed in range(20) for o in renderer.render(seed, only).objects}
    assert shown == HELD_OUT_PAIRS


def test_number_of_objects_and_hindrances_follow_the_options() -> None:
    renderer = FlatRenderer(336, 252)
    empty = renderer.render(1, FlatOptions(objects=(0, 0), person_share=0, obstacle_share=0))
    assert empty.objects == ()
    assert (empty.person, empty.obstacle) == (None, None)
    persons = [renderer.render(s, FlatOptions(objects=(0, 2), person_share=1)).person for s in range(8)]
    assert sum(person is not None for person in persons) >= 6
    obstacles = [renderer.render(s, FlatOptions(objects=(0, 2), obstacle_share=1)).obstacle for s in range(8)]
    assert sum(obstacle is not None for obstacle in obstacles) >= 6


def test_a_spoiled_picture_is_deterministic_and_noisy_in_every_channel() -> None:
    grey = np.full((40, 60, 3), 128, np.float32)
    pictures = [spoil(np.random.default_rng(seed), grey) for seed in range(30)]
    assert np.array_equal(pictures[4], spoil(np.random.default_rng(4), grey))
    assert all(picture.dtype == np.uint8 and picture.shape == grey.shape for picture in pictures)
    detail = [picture[:, 1:].astype(float) - picture[:, :-1] for picture in pictures]
    noisy = [d.std((0, 1)) for d in detail if d.std() > 2]
    assert len(noisy) > 10
    assert all(channels.min() > 0.5 * channels.max() for channels in noisy)
