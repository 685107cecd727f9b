"""Boxes to places, against the simulator's truth and against bodies projected by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exaone_ros.action import localise
from exaone_ros.action.localise import BALL, CUBE, CYLINDER, PinholeCamera, on_plane
from exaone_ros.errors import ActionError, MissingExtra
from exaone_ros.sim.humanoid import head_camera_pose
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import TABLE_TOP_M


def camera(pan_rad: float = 0.0, tilt_rad: float = 0.75) -> PinholeCamera:
    position, world_to_optical = head_camera_pose(pan_rad, tilt_rad)
    return PinholeCamera(539.0, (319.5, 239.5), position, world_to_optical.T)


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(0.4, 0.9),
    y=st.floats(-0.4, 0.4),
    radius=st.floats(0.02, 0.06),
    height=st.floats(0.03, 0.15),
    pan=st.floats(-0.5, 0.5),
)
def test_a_cylinder_is_found_where_it_stands(x: float, y: float, radius: float, height: float, pan: float) -> None:
    eye = camera(pan)
    points = localise._cylinder(np.array([x, y, radius, height]), eye, 0.8)
    box = localise._box(points, eye)
    assume(box.min() > 0 and box[2] < 640 and box[3] < 480)
    found = on_plane(box, eye, 0.8)
    assert found.top == pytest.approx((x, y, 0.8 + height), abs=1e-3)
    assert (found.radius_m, found.height_m) == pytest.approx((radius, height), abs=1e-3)
    assert found.misfit_px < 0.1


def test_ray_and_projection_are_inverse() -> None:
    eye = camera(0.3, 0.6)
    point = eye.position + 0.8 * eye.ray(100.0, 400.0)
    assert eye.project(point[None])[0] == pytest.approx([100.0, 400.0])


def test_against_the_simulator() -> None:
    """Figures stand in docs/vla.md: 60 scenes; here fewer, with some room."""
    from exaone_ros.sim.tabletop import TabletopRenderer

    options = SceneOptions(objects=(5, 8), person_share=0.0, obstacle_share=0.0)
    errors_m: dict[str, list[float]] = {CYLINDER: [], BALL: [], CUBE: []}
    try:
        renderer = TabletopRenderer(640, 480, samples=0)
    except MissingExtra as error:
        pytest.skip(f"no rendering here: {error}")
    with renderer:
        for seed in range(12):
            scene = sample_scene(np.random.default_rng(seed), options)
            frame = renderer.render_scene(scene)
            view = renderer.view()
            k = view.intrinsics.k
            eye = PinholeCamera(k[0], (k[2], k[5]), view.position, view.rotation.T)
            for seen in frame.objects:
                same = [o for o in scene.objects if (o.shape, o.colour) == (seen.shape, seen.colour)]
                inside = seen.box[0] > 1 and seen.box[1] > 1 and seen.box[2] < 639 and seen.box[3] < 479
                if len(same) != 1 or seen.visible_fraction < 0.97 or seen.shape not in errors_m or not inside:
                    continue
                found = on_plane(seen.box, eye, TABLE_TOP_M, seen.shape)
                truth = (same[0].x_m, same[0].y_m, TABLE_TOP_M + same[0].height_m)
                errors_m[seen.shape].append(float(np.linalg.norm(np.subtract(found.top, truth))))
    assert all(len(errors) >= 5 for errors in errors_m.values())
    assert np.percentile(errors_m[CYLINDER], 95) < 0.006
    assert np.percentile(errors_m[BALL], 95) < 0.004
    assert np.percentile(errors_m[CUBE], 95) < 0.018


def test_refusals() -> None:
    eye = camera()
    with pytest.raises(ActionError, match="has no area"):
        on_plane((10, 10, 10, 20), eye, 0.8)
    with pytest.raises(ActionError, match="shape is 'pyramid'"):
        on_plane((300, 200, 340, 240), eye, 0.8, "pyramid")
    level = camera(tilt_rad=0.0)
    with pytest.raises(ActionError, match=r"looks down by -?0"):
        on_plane((300, 200, 340, 241), level, 0.8)
    with pytest.raises(ActionError, match="must stand above the plane"):
        on_plane((300, 200, 340, 240), eye, 5.0)
    with pytest.raises(ActionError, match="is the object held, hidden in part"):
        on_plane((300, 100, 304, 400), eye, 0.8, BALL)
    assert math.isfinite(on_plane((0, 0, 640, 480), eye, 0.8).top[0])  # nonsense, but a number
