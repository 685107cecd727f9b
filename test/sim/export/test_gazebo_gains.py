"""The gains in the SDF hold the robot when they are applied as Gazebo does: forces once per step, no armature.

Gazebo itself is not needed: MuJoCo loads the URDF (the same links and dampings), and this test is the controller. Joint
damping is implicit in both; everything else is explicit.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import mujoco
import numpy as np
import pytest

from exaone_ros.share import share_path
from exaone_ros.sim.humanoid import HOME_RAD, JOINTS


@pytest.fixture(scope="module")
def robot() -> tuple[Any, dict[str, dict[str, float]], float]:
    """(model without armature, gains by joint, Gazebo's step in seconds)."""
    urdf = ElementTree.parse(share_path("description/exaone_humanoid.urdf")).getroot()
    for link in urdf.iter("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
    options = ElementTree.SubElement(ElementTree.SubElement(urdf, "mujoco"), "compiler")
    options.set("fusestatic", "false")
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(urdf, encoding="unicode"))
    sdf = ElementTree.parse(share_path("description/exaone_humanoid.sdf")).getroot()
    for link in sdf.iter("link"):
        if link.findtext("gravity") == "false":
            spec.body(link.attrib["name"]).gravcomp = 1.0
    model = spec.compile()
    world = ElementTree.parse(share_path("worlds/tabletop.sdf")).getroot()
    step_s = float(world.findtext("world/physics/max_step_size") or "nan")
    model.opt.timestep, model.opt.integrator = step_s, int(mujoco.mjtIntegrator.mjINT_EULER)
    (control,) = (p for p in sdf.iter("plugin") if p.attrib["name"].endswith("::JointTrajectoryController"))
    columns = {tag: [element.text for element in control.findall(tag)] for tag in _COLUMNS}
    names = [str(element.text) for element in control.findall("joint_name")]
    gains = {
        name: {tag: float(values[row] or "nan") for tag, values in columns.items()} for row, name in enumerate(names)
    }
    return model, gains, step_s


_COLUMNS = ("initial_position", "position_p_gain", "position_d_gain", "position_cmd_min", "position_cmd_max")


def test_the_robot_gets_home_and_stays_there(robot: tuple[Any, dict[str, dict[str, float]], float]) -> None:
    model, gains, step_s = robot
    data = mujoco.MjData(model)
    columns = {tag: np.array([gains[joint][tag] for joint in JOINTS]) for tag in _COLUMNS}
    qpos = np.array([int(model.joint(joint).qposadr[0]) for joint in JOINTS])
    dofs = np.array([int(model.joint(joint).dofadr[0]) for joint in JOINTS])
    assert not model.dof_armature.any() and model.dof_damping[dofs].all()
    last = columns["initial_position"] - data.qpos[qpos]
    for _ in range(round(4.0 / step_s)):
        error = columns["initial_position"] - data.qpos[qpos]
        force = columns["position_p_gain"] * error + columns["position_d_gain"] * (error - last) / step_s
        last = error
        data.qfrc_applied[dofs] = np.clip(force, columns["position_cmd_min"], columns["position_cmd_max"])
        mujoco.mj_step(model, data)
    fastest = float(np.abs(data.qvel[dofs]).max())
    home = np.array([HOME_RAD.get(joint, 0.0) for joint in JOINTS])
    worst = int(np.abs(data.qpos[qpos] - home).argmax())
    assert np.abs(data.qpos[qpos] - home).max() < 0.03, (JOINTS[worst], data.qpos[qpos][worst], home[worst])
    assert fastest < 0.02, JOINTS[int(np.abs(data.qvel[dofs]).argmax())]
