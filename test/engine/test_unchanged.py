"""A view counts as unchanged under noise, and as changed when something small moves in it."""

from __future__ import annotations

import numpy as np
import pytest

from exaone_ros.engine.unchanged import UnchangedView
from exaone_ros.errors import EngineError, ImageError


def scene(left_px: int = 300) -> np.ndarray:
    image = np.full((480, 640, 3), 120, np.uint8)
    image[200:230, left_px : left_px + 30] = (200, 40, 40)
    return image


def noisy(image: np.ndarray, seed: int, sigma: float = 3.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def test_off_by_default_every_frame_is_a_picture_of_its_own() -> None:
    view, image = UnchangedView(), scene()
    assert view.picture(image) is not view.picture(image)
    assert view.reused == 0


def test_noise_is_no_change_and_a_step_of_four_pixels_is() -> None:
    view = UnchangedView(4.0)
    first = view.picture(noisy(scene(), 0))
    assert all(view.picture(noisy(scene(), seed)) is first for seed in range(1, 6))
    moved = view.picture(noisy(scene(304), 9))
    assert moved is not first and moved.key != first.key
    assert view.picture(noisy(scene(304), 10)) is moved and view.reused == 6


def test_slow_changes_add_up() -> None:
    view = UnchangedView(4.0)
    pictures = [view.picture(np.full((48, 64, 3), level, np.uint8)) for level in range(100, 120)]
    assert len(set(pictures)) == 4, "one in five, as each is compared with the one that was encoded"


def test_another_size_and_too_many_in_a_row_are_new_pictures() -> None:
    view = UnchangedView(4.0, most_reuses=2)
    image = scene()
    first = view.picture(image)
    assert [view.picture(image) is first for _ in range(4)] == [True, True, False, False]
    assert view.picture(image[::2, ::2]).image.shape == (240, 320, 3)


@pytest.mark.parametrize("bad", [None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_named(bad: object) -> None:
    with pytest.raises(ImageError):
        UnchangedView(1.0).picture(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("threshold", "most"), [(-1.0, 1), (256, 1), (float("nan"), 1), (True, 1), (1.0, 0)])
def test_settings_out_of_range_are_refused(threshold: float, most: int) -> None:
    with pytest.raises(EngineError, match="unchanged view"):
        UnchangedView(threshold, most_reuses=most)
