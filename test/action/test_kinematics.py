"""Forward kinematics against the simulator's own, inverse kinematics against forward."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco")

from exaone_ros.action.kinematics import Kinematics
from exaone_ros.errors import ActionError
from exaone_ros.sim import humanoid
from exaone_ros.sim.mjcf import robot_mjcf
from exaone_ros.sim.scene import TABLE_TOP_M

HOME = dict.fromkeys(humanoid.JOINTS, 0.0) | humanoid.HOME_RAD
ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_yaw", "wrist_pitch")
RIGHT = ("waist_yaw", "waist_pitch", *(f"right_{joint}" for joint in ARM))
COSTS = {"waist_yaw": 4.0, "waist_pitch": 4.0}
DOWN = (0.0, 0.0, -1.0)


@pytest.fixture(scope="module")
def robot() -> Kinematics:
    return Kinematics(robot_mjcf())


@pytest.mark.parametrize(("pan", "tilt"), [(0.0, 0.0), (0.4, 0.75), (-1.0, 0.3)])
def test_camera_is_where_the_simulator_says(robot: Kinematics, pan: float, tilt: float) -> None:
    pose = robot.camera(humanoid.CAMERA_NAME, HOME | {"head_pan": pan, "head_tilt": tilt})
    position, world_to_optical = humanoid.head_camera_pose(pan, tilt)
    assert pose.position == pytest.approx(position)
    assert pose.rotation == pytest.approx(world_to_optical.T)


def test_reaches_all_over_the_table(robot: Kinematics) -> None:
    for x in np.linspace(0.4, 0.8, 5):
        for y in np.linspace(-0.35, 0.1, 4):
            target = np.array([x, y, TABLE_TOP_M + 0.1])
            found = robot.reach("right_grasp", RIGHT, HOME, target, direction=DOWN, rest=HOME, costs=COSTS)
            assert found.error_m < 2e-3, (x, y)
            assert found.tilt_rad < 0.7, (x, y)
            for joint, position in zip(RIGHT, found.positions, strict=True):
                lower, upper = robot.limits(joint)
                assert lower <= position <= upper
            reached = robot.site("right_grasp", HOME | dict(zip(RIGHT, found.positions, strict=True)))
            assert np.linalg.norm(reached.position - target) == pytest.approx(found.error_m, abs=1e-9)
            pointing = -reached.rotation[:, 2]
            assert np.arccos(pointing @ DOWN) == pytest.approx(found.tilt_rad, abs=1e-6)


def test_the_hand_points_down_where_it_can(robot: Kinematics) -> None:
    found = robot.reach("right_grasp", RIGHT, HOME, [0.5, -0.2, 0.9], direction=DOWN, rest=HOME, costs=COSTS)
    assert found.error_m < 1e-3
    assert found.tilt_rad < 0.02


def test_an_expensive_joint_moves_less(robot: Kinematics) -> None:
    target = [0.6, -0.1, 0.9]
    cheap = robot.reach("right_grasp", RIGHT, HOME, target)
    dear = robot.reach("right_grasp", RIGHT, HOME, target, costs=dict.fromkeys(RIGHT[:2], 20.0))
    assert np.abs(dear.positions[:2]).sum() < 0.5 * np.abs(cheap.positions[:2]).sum()
    assert dear.error_m < 1e-3


def test_out_of_reach_is_told_by_its_error(robot: Kinematics) -> None:
    found = robot.reach("right_grasp", RIGHT, HOME, [3.0, 0.0, 1.0])
    assert found.error_m > 1.5
    assert np.isfinite(found.positions).all()


def test_refusals(robot: Kinematics) -> None:
    with pytest.raises(ActionError, match="no site 'tail'"):
        robot.site("tail", {})
    with pytest.raises(ActionError, match="no joint 'tail'"):
        robot.limits("tail")
    with pytest.raises(ActionError, match="no camera 'tail'"):
        robot.camera("tail", {})
    with pytest.raises(ActionError, match="three finite numbers"):
        robot.reach("right_grasp", RIGHT, HOME, [np.nan, 0, 0])
    with pytest.raises(ActionError, match="robot model cannot be read"):
        Kinematics("<mujoco><nonsense/></mujoco>")
    slack = '<mujoco><worldbody><body><joint name="j"/><geom size="1"/></body></worldbody></mujoco>'
    with pytest.raises(ActionError, match="'j' of the robot model has no limits"):
        Kinematics(slack).limits("j")
