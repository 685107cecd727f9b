"""The robot: a KAPEX-style humanoid of our own design, as MJCF.

KAPEX has no public model: every length, mass, range and gain here is a placeholder of our own, chosen so that the robot
stands, reaches over a table and looks down on it from its head. Frame: x ahead, y left, z up, origin between the feet.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PELVIS_HEIGHT_M = 0.885
"""Above the floor when the legs are bent as in HOME_RAD."""
TORSO_ABOVE_PELVIS_M = 0.09
NECK_IN_TORSO_M = (0.02, 0.0, 0.38)
HEAD_ABOVE_NECK_M = 0.08
CAMERA_IN_HEAD_M = (0.105, 0.0, 0.06)
CAMERA_NAME = "head_camera"
CAMERA_FRAME_ID = "head_camera_optical_frame"

PAN_RANGE_RAD = (-1.4, 1.4)
TILT_RANGE_RAD = (-0.6, 1.1)

_LEG_JOINTS = ("hip_yaw", "hip_roll", "hip_pitch", "knee", "ankle_pitch", "ankle_roll")
_ARM_JOINTS = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow")
_WRIST_JOINTS = ("wrist_yaw", "wrist_pitch")
_FINGERS = ("finger_0", "finger_1")

HOME_RAD: dict[str, float] = {
    "left_shoulder_pitch": 0.45, "right_shoulder_pitch": 0.45,
    "left_shoulder_roll": 0.18, "right_shoulder_roll": -0.18,
    "left_elbow": -1.1, "right_elbow": -1.1,
    "left_hip_pitch": -0.22, "right_hip_pitch": -0.22,
    "left_knee": 0.44, "right_knee": 0.44,
    "left_ankle_pitch": -0.22, "right_ankle_pitch": -0.22,
    "head_tilt": 0.75,
}  # fmt: skip
"""Joint positions to stand in; joints not named are at 0."""


def _actuators() -> list[tuple[str, str]]:
    """(joint, class of gains) in the order of the actuators."""
    pairs = [(f"{side}_{joint}", "leg") for side in ("left", "right") for joint in _LEG_JOINTS]
    pairs += [("waist_yaw", "leg"), ("waist_pitch", "leg")]
    for side in ("left", "right"):
        pairs += [(f"{side}_{joint}", "arm") for joint in _ARM_JOINTS]
        pairs += [(f"{side}_{joint}", "wrist") for joint in _WRIST_JOINTS]
        pairs += [(f"{side}_{joint}", "finger") for joint in _FINGERS]
    return [*pairs, ("head_pan", "wrist"), ("head_tilt", "wrist")]


JOINTS: tuple[str, ...] = tuple(joint for joint, _ in _actuators())
"""Actuated joints in the order of the actuators; radians, fingers in metres."""


def head_camera_pose(
    pan_rad: float, tilt_rad: float, sway_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the head camera is, with all other joints at home and the pelvis pinned.

    Args:
        pan_rad: of the neck, positive to the left.
        tilt_rad: of the head, positive down.
        sway_m: how far the whole body is displaced.

    Returns:
        (position float64 [3] in metres, rotation float64 [3, 3] from the world to the optical frame).
    """
    cos_p, sin_p, cos_t, sin_t = math.cos(pan_rad), math.sin(pan_rad), math.cos(tilt_rad), math.sin(tilt_rad)
    pan = np.array([[cos_p, -sin_p, 0.0], [sin_p, cos_p, 0.0], [0.0, 0.0, 1.0]])
    tilt = np.array([[cos_t, 0.0, sin_t], [0.0, 1.0, 0.0], [-sin_t, 0.0, cos_t]])
    neck = np.array([0.0, 0.0, PELVIS_HEIGHT_M + TORSO_ABOVE_PELVIS_M]) + NECK_IN_TORSO_M + sway_m
    head = pan @ tilt
    position = neck + pan @ np.array([0.0, 0.0, HEAD_ABOVE_NECK_M]) + head @ np.array(CAMERA_IN_HEAD_M)
    optical_in_head = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # columns: right, down, ahead
    return position, (head @ optical_in_head).T


def _leg(side: str, sign: int, solid: bool) -> str:
    return f"""
    <body name="{side}_thigh_link" pos="0 {0.095 * sign} -0.06">
      <joint name="{side}_hip_yaw" axis="0 0 1" range="-0.7 0.7" class="leg"/>
      <joint name="{side}_hip_roll" axis="1 0 0" range="-0.5 0.5" class="leg"/>
      <joint name="{side}_hip_pitch" axis="0 1 0" range="-1.6 0.8" class="leg"/>
      <geom class="joint" type="sphere" size="0.068" mass="0.8"/>
      <geom class="shell" type="capsule" fromto="0 0 -0.05 0 0 -0.35" size="0.062" mass="4.2"/>
      <body name="{side}_shin_link" pos="0 0 -0.389">
        <joint name="{side}_knee" axis="0 1 0" range="-0.05 2.2" class="leg"/>
        <geom class="joint" type="capsule" fromto="0 -0.035 0 0 0.035 0" size="0.053" mass="0.5"/>
        <geom class="shell" type="capsule" fromto="0 0 -0.05 0 0 -0.32" size="0.048" mass="2.8"/>
        <body name="{side}_foot_link" pos="0 0 -0.379">
          <joint name="{side}_ankle_pitch" axis="0 1 0" range="-0.9 0.7" class="leg"/>
          <joint name="{side}_ankle_roll" axis="1 0 0" range="-0.4 0.4" class="leg"/>
          <geom class="joint" type="sphere" size="0.043" mass="0.3"/>
          <geom name="{side}_sole" class="shell" type="box" pos="0.04 0 -0.055" size="0.12 0.05 0.02" mass="1.2"
                contype="{int(solid)}" conaffinity="{int(solid)}"/>
        </body>
      </body>
    </body>"""


def _finger(side: str, index: int, sign: int) -> str:
    return f"""
        <body name="{side}_finger_{index}_link" gravcomp="1" pos="0 {0.034 * sign} -0.08">
          <joint name="{side}_finger_{index}" type="slide" axis="0 {-sign} 0" range="0 0.03" class="finger"/>
          <geom class="joint" type="box" size="0.012 0.008 0.035" pos="0 0 -0.03" mass="0.03"
                contype="1" conaffinity="1" friction="1.5"/>
        </body>"""


def _arm(side: str, sign: int) -> str:
    roll = "-0.3 2.6" if sign > 0 else "-2.6 0.3"
    lean = 0.02 * sign
    return f"""
    <body name="{side}_upper_arm_link" gravcomp="1" pos="0 {0.19 * sign} 0.30">
      <joint name="{side}_shoulder_pitch" axis="0 1 0" range="-3 1.2" class="arm"/>
      <joint name="{side}_shoulder_roll" axis="1 0 0" range="{roll}" class="arm"/>
      <joint name="{side}_shoulder_yaw" axis="0 0 1" range="-1.6 1.6" class="arm"/>
      <geom class="joint" type="sphere" size="0.058" mass="0.6"/>
      <geom class="shell" type="capsule" fromto="0 {lean} -0.05 0 {lean} -0.26" size="0.044" mass="1.6"/>
      <body name="{side}_forearm_link" gravcomp="1" pos="0 {lean} -0.30">
        <joint name="{side}_elbow" axis="0 1 0" range="-2.4 0.05" class="arm"/>
        <geom class="joint" type="capsule" fromto="0 -0.03 0 0 0.03 0" size="0.041" mass="0.3"/>
        <geom class="shell" type="capsule" fromto="0 0 -0.05 0 0 -0.22" size="0.036" mass="0.9"/>
        <body name="{side}_hand_link" gravcomp="1" pos="0 0 -0.27">
          <joint name="{side}_wrist_yaw" axis="0 0 1" range="-1.6 1.6" class="wrist"/>
          <joint name="{side}_wrist_pitch" axis="0 1 0" range="-1.2 1.2" class="wrist"/>
          <geom class="shell" type="box" size="0.025 0.042 0.035" pos="0 0 -0.04" mass="0.35"/>
          <site name="{side}_grasp" pos="0 0 -0.12" size="0.005" rgba="1 0 0 0"/>
          {_finger(side, 0, 1)}{_finger(side, 1, -1)}
        </body>
      </body>
    </body>"""


def humanoid_body(free: bool = False) -> str:
    """MJCF of the robot, to stand in a <worldbody>.

    Args:
        free: give the pelvis a free joint named ``root``; otherwise it is pinned, and the soles touch nothing.
    """
    camera = " ".join(map(str, CAMERA_IN_HEAD_M))
    return f"""
  <body name="pelvis" pos="0 0 {PELVIS_HEIGHT_M}">
    {'<freejoint name="root"/>' if free else ""}
    <geom class="shell" type="capsule" fromto="0 -0.075 0 0 0.075 0" size="0.085" mass="7"/>
    {_leg("left", 1, free)}{_leg("right", -1, free)}
    <body name="torso_link" pos="0 0 {TORSO_ABOVE_PELVIS_M}">
      <joint name="waist_yaw" axis="0 0 1" range="-1.2 1.2" class="leg"/>
      <joint name="waist_pitch" axis="0 1 0" range="-0.2 0.9" class="leg"/>
      <geom class="joint" type="capsule" fromto="0 0 -0.02 0 0 0.07" size="0.067" mass="2"/>
      <geom class="shell" type="box" size="0.08 0.125 0.12" pos="0 0 0.21" mass="6.5"/>
      <geom class="shell" type="capsule" fromto="0 -0.115 0.30 0 0.115 0.30" size="0.07" mass="3"/>
      <geom class="trim" type="box" size="0.004 0.06 0.03" pos="0.08 0 0.25" mass="0.01"/>
      {_arm("left", 1)}{_arm("right", -1)}
      <body name="neck_link" gravcomp="1" pos="{" ".join(map(str, NECK_IN_TORSO_M))}">
        <joint name="head_pan" axis="0 0 1" range="{PAN_RANGE_RAD[0]} {PAN_RANGE_RAD[1]}" class="wrist"/>
        <geom class="joint" type="capsule" fromto="0 0 -0.02 0 0 0.04" size="0.038" mass="0.4"/>
        <body name="head_link" gravcomp="1" pos="0 0 {HEAD_ABOVE_NECK_M}">
          <joint name="head_tilt" axis="0 1 0" range="{TILT_RANGE_RAD[0]} {TILT_RANGE_RAD[1]}" class="wrist"/>
          <geom class="shell" type="ellipsoid" size="0.085 0.078 0.105" pos="0 0 0.05" mass="1.8"/>
          <geom class="trim" type="ellipsoid" size="0.045 0.06 0.05" pos="0.045 0 0.06" mass="0.05"/>
          <camera name="{CAMERA_NAME}" pos="{camera}" xyaxes="0 -1 0 0 0 1" fovy="48"/>
        </body>
      </body>
    </body>
  </body>"""


def humanoid_defaults() -> str:
    """MJCF default classes that `humanoid_body` and `humanoid_actuators` use."""
    return """
    <default class="shell"><geom material="shell" contype="0" conaffinity="0"/></default>
    <default class="joint"><geom material="dark" contype="0" conaffinity="0"/></default>
    <default class="trim"><geom material="trim" contype="0" conaffinity="0"/></default>
    <default class="leg">
      <joint damping="3" armature=".05" frictionloss=".2"/>
      <position kp="900" dampratio="1" forcerange="-250 250" inheritrange="1"/>
    </default>
    <default class="arm">
      <joint damping="1" armature=".02" frictionloss=".1"/>
      <position kp="250" dampratio="1" forcerange="-80 80" inheritrange="1"/>
    </default>
    <default class="wrist">
      <joint damping=".3" armature=".01" frictionloss=".05"/>
      <position kp="60" dampratio="1" forcerange="-20 20" inheritrange="1"/>
    </default>
    <default class="finger">
      <joint damping="2" armature=".005"/>
      <position kp="400" dampratio="1" forcerange="-20 20" inheritrange="1"/>
    </default>"""


def humanoid_materials() -> str:
    """MJCF materials of the robot."""
    return """
    <material name="shell" rgba=".86 .87 .9 1" specular=".5" shininess=".6"/>
    <material name="dark" rgba=".16 .17 .2 1" specular=".4" shininess=".5"/>
    <material name="trim" rgba=".05 .35 .55 1" emission=".4"/>"""


def humanoid_actuators() -> str:
    """MJCF position actuators, named like their joints."""
    return "\n".join(f'    <position name="{j}" joint="{j}" class="{c}"/>' for j, c in _actuators())
