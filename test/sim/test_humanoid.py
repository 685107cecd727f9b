"""The robot's description, against MuJoCo's own reading of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exaone_ros.sim.humanoid import HOME_RAD, JOINTS
from exaone_ros.sim.model import TabletopModel
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import HeadCamera

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def tabletop() -> TabletopModel:
    return TabletopModel()


@pytest.mark.parametrize(("pan", "tilt"), [(0.0, 0.0), (0.3, 0.7), (-0.5, 1.0), (1.2, -0.4)])
def test_camera_pose_without_mujoco_is_mujocos(tabletop: TabletopModel, pan: float, tilt: float) -> None:
    camera = HeadCamera(pan, tilt, 50.0, (0.02, -0.03, 0.01))
    tabletop.apply(dataclasses.replace(sample_scene(np.random.default_rng(0)), camera=camera))
    position, rotation = tabletop.camera_pose()
    view = camera.view(640, 480)
    assert np.allclose(position, view.position, atol=1e-9)
    assert np.allclose(rotation, view.rotation, atol=1e-9)


def test_joints_are_the_actuators_and_home_is_within_their_ranges(tabletop: TabletopModel) -> None:
    model = tabletop.model
    assert [model.actuator(i).name for i in range(model.nu)] == list(JOINTS)
    assert len(JOINTS) == 32
    for joint in JOINTS:
        low, high = model.joint(joint).range
        assert low <= HOME_RAD.get(joint, 0.0) <= high


def test_masses_are_sane(tabletop: TabletopModel) -> None:
    assert 35 < float(tabletop.model.body("pelvis").subtreemass[0]) < 70


def test_too_many_objects_are_refused(tabletop: TabletopModel) -> None:
    scene = sample_scene(np.random.default_rng(0), SceneOptions(objects=(6, 6)))
    with pytest.raises(ValueError, match="12 objects"):
        tabletop.apply(dataclasses.replace(scene, objects=scene.objects * 2))
