"""The robot alone is the robot of the world."""

from __future__ import annotations

import pytest

from exaone_ros.sim.humanoid import JOINTS
from exaone_ros.sim.mjcf import robot_mjcf, world_mjcf

mujoco = pytest.importorskip("mujoco")


def test_same_joints_ranges_and_mass_as_in_the_world() -> None:
    alone, world = (mujoco.MjModel.from_xml_string(xml) for xml in (robot_mjcf(), world_mjcf()))
    assert alone.nu == len(JOINTS)
    for joint in JOINTS:
        assert alone.joint(joint).range.tolist() == world.joint(joint).range.tolist()
    pelvis = (model.body("pelvis").subtreemass[0] for model in (alone, world))
    assert next(pelvis) == pytest.approx(next(pelvis))
