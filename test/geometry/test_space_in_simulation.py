"""Boxes in space against the places where the simulator put the objects."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("mujoco")

from exaone_ros.geometry.camera import CameraModel
from exaone_ros.geometry.space import BoxInSpace, locate
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.tabletop import TabletopRenderer

SCENES = 12


def errors_m(noise: float, holes: float) -> np.ndarray:
    """Distance from the estimated to the true middle of each object that can be told apart and is seen well, float [n].

    Args:
        noise: standard deviation of the depth as a share of it.
        holes: share of the pixels without a depth.
    """
    rng = np.random.default_rng(0)
    errors = []
    with TabletopRenderer(320, 240, shadows=False, samples=0) as renderer:
        for seed in range(SCENES):
            scene = sample_scene(np.random.default_rng(seed), SceneOptions(), 320 / 240)
            frame = renderer.render_scene(scene, depth=True)
            assert frame.depth_m is not None
            depth = frame.depth_m * (1 + rng.normal(0, noise, frame.depth_m.shape)).astype(np.float32)
            depth[rng.random(depth.shape) < holes] = np.nan
            view = renderer.view()
            camera = CameraModel.from_info(320, 240, view.intrinsics.k)
            number = Counter((thing.shape, thing.colour) for thing in scene.objects)
            for thing in scene.objects:
                seen = [s for s in frame.objects if (s.shape, s.colour) == (thing.shape, thing.colour)]
                if number[thing.shape, thing.colour] > 1 or not seen or seen[0].visible_fraction < 0.9:
                    continue
                place = locate(depth, seen[0].box, camera)
                assert isinstance(place, BoxInSpace)
                true = view.rotation @ (np.array(thing.centre_m) - view.position)
                errors.append(float(np.linalg.norm(np.subtract(place.center, true))))
    return np.array(errors)


@pytest.mark.parametrize(("noise", "holes"), [(0.0, 0.0), (0.005, 0.4)])
def test_objects_are_located_within_centimetres(noise: float, holes: float) -> None:
    errors = errors_m(noise, holes)
    assert len(errors) >= 25
    assert np.median(errors) < 0.015 and np.percentile(errors, 95) < 0.04, np.sort(errors)
