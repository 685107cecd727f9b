"""Boxes in space from depth: on made depth images, where every answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from exaone_ros.errors import ImageError
from exaone_ros.geometry.camera import CameraModel
from exaone_ros.geometry.space import BoxInSpace, NoDepth, locate, nearest_surface

CAMERA = CameraModel(640, 480, 500.0, 500.0, 319.5, 239.5)


def wall(distance_m: float = 3.0) -> np.ndarray:
    return np.full((480, 640), distance_m, np.float32)


def with_patch(distance_m: float, box: tuple[int, int, int, int], behind_m: float = 3.0) -> np.ndarray:
    depth = wall(behind_m)
    depth[box[1] : box[3], box[0] : box[2]] = distance_m
    return depth


def found(depth: np.ndarray, box: tuple[float, float, float, float]) -> BoxInSpace:
    place = locate(depth, box, CAMERA)
    assert isinstance(place, BoxInSpace)
    return place


def test_a_patch_in_the_middle_lies_straight_ahead() -> None:
    box = (300, 220, 340, 260)
    place = found(with_patch(1.0, box), box)
    assert place.surface_m == pytest.approx(1.0)
    x, y, z = place.center
    assert (x, y) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert place.size[0] == place.size[1] == place.size[2] == pytest.approx(0.08 * z)
    assert 1.0 < z < 1.0 + place.size[2] / 2 + 1e-6


def test_right_and_below_are_positive() -> None:
    box = (500, 400, 540, 440)
    x, y, z = found(with_patch(2.0, box), box).center
    assert x == pytest.approx((520 - 320) / 500 * z) and y == pytest.approx((420 - 240) / 500 * z)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_holes_and_noise_in_the_box_do_not_move_it(share: float) -> None:
    rng = np.random.default_rng(3)
    box = (200, 150, 300, 250)
    depth = with_patch(0.8, box) + rng.normal(0, 0.004, (480, 640)).astype(np.float32)
    holes = rng.random(depth.shape) < share
    depth[holes] = rng.choice(np.array([np.nan, 0.0, np.inf, -1.0], np.float32), holes.sum())
    place = found(depth, box)
    assert place.surface_m == pytest.approx(0.8, abs=0.002)


def test_the_background_that_shows_through_does_not_count() -> None:
    box = (200, 150, 300, 250)
    depth = with_patch(0.8, box)
    depth[170:230, 230:262] = 3.0  # more than half of the middle is the wall: a frame, or the handle of a mug
    assert found(depth, box).surface_m == pytest.approx(0.8)


def test_a_twig_in_front_does_not_count() -> None:
    box = (200, 150, 300, 250)
    depth = with_patch(0.8, box)
    depth[:, 248:252] = 0.4
    assert found(depth, box).surface_m == pytest.approx(0.8)


def test_a_box_with_holes_in_its_middle_uses_its_rim() -> None:
    box = (200, 150, 300, 250)
    depth = with_patch(0.8, box)
    depth[170:230, 220:280] = np.nan
    assert found(depth, box).surface_m == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("depth", "box", "reason"),
    [
        (np.full((480, 640), np.nan, np.float32), (10, 10, 50, 50), NoDepth.HOLES),
        (wall(30.0), (10, 10, 50, 50), NoDepth.HOLES),
        (wall(), (700, 10, 750, 50), NoDepth.OUTSIDE),
        (wall(), (-90, -90, -10, -10), NoDepth.OUTSIDE),
        (wall(), (50, 50, 50, 80), NoDepth.OUTSIDE),
        (wall(), (float("nan"), 50, 60, 80), NoDepth.OUTSIDE),
    ],
)
def test_what_has_no_place_says_why(depth: np.ndarray, box: tuple[float, ...], reason: NoDepth) -> None:
    assert locate(depth, box, CAMERA) is reason  # type: ignore[arg-type]


def test_a_box_over_the_edge_is_cut_there() -> None:
    assert found(wall(2.0), (600, 440, 700, 520)).surface_m == pytest.approx(2.0)


def test_depth_of_another_size_is_refused() -> None:
    with pytest.raises(ImageError, match="aligned"):
        locate(np.ones((240, 320), np.float32), (1, 1, 9, 9), CAMERA)


def test_of_two_equal_surfaces_the_nearer_is_taken() -> None:
    depths = np.concatenate([np.full(500, 2.0), np.full(500, 1.0), np.full(20, 0.3)]).astype(np.float32)
    assert np.unique(nearest_surface(depths)).tolist() == [1.0]


@pytest.mark.parametrize("edge", [float("nan"), float("inf"), 1e300])
def test_whatever_a_box_is_its_place_is_finite_or_named(edge: float) -> None:
    depth = np.full((480, 640), 1.5, np.float32)
    camera = CameraModel.from_info(640, 480, (500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1))
    for box in ((0.0, 0.0, edge, 50.0), (-edge, -edge, edge, edge), (100.0, edge, 200.0, edge)):
        place = locate(depth, box, camera)
        assert isinstance(place, NoDepth) or np.isfinite([*place.center, *place.size]).all()


def test_a_distorted_camera_is_straightened() -> None:
    cv2 = pytest.importorskip("cv2")
    k = (500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1)
    for model, d in (("plumb_bob", (0.1, -0.2, 0.001, 0.002, 0.0)), ("equidistant", (0.02, -0.01, 0.003, 0.0))):
        camera = CameraModel.from_info(640, 480, k, model, d)
        points = np.array([[0.2, 0.1, 1.0], [-0.3, 0.15, 1.0]])
        matrix = np.reshape(k, (3, 3))
        project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
        shape = points[None] if model == "equidistant" else points
        pixels = project(shape, np.zeros(3), np.zeros(3), matrix, np.array(d))[0].reshape(-1, 2)
        assert np.abs(camera.rays(pixels + 0.5) - points[:, :2]).max() < 1e-4


@pytest.mark.parametrize(
    ("k", "model", "d", "word"),
    [
        ((0.0,) * 9, "plumb_bob", (), "calibrated"),
        ((float("nan"), 0, 1, 0, 1, 1, 0, 0, 1), "", (), "calibrated"),
        ((500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1), "ocam", (1.0, 2.0), "ocam"),
        ((500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1), "plumb_bob", (0.1, float("nan"), 0.0, 0.0, 0.0), "finite"),
        ((500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1), "rational_polynomial", (0.1,) * 3, "4 or 5 or 8 or 12 or 14"),
        ((500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1), "equidistant", (0.1,) * 3, "expected 4 finite"),
    ],
)
def test_a_camera_that_cannot_be_used_is_refused(
    k: tuple[float, ...], model: str, d: tuple[float, ...], word: str
) -> None:
    with pytest.raises(ImageError, match=word):
        CameraModel.from_info(640, 480, k, model, d)
