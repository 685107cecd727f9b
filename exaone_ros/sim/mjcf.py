"""The world as MJCF: room, table, a pool of objects, obstacles, a person, and the robot.

One model serves every scene: `model.TabletopModel` moves, resizes and repaints what stands in this pool.
"""

from __future__ import annotations

import math

from exaone_ros.sim import humanoid
from exaone_ros.sim.meshes import WALL_M, mug
from exaone_ros.sim.scene import LARGEST_M, MUG_SIZES_M, TABLE_TOP_M, TABLE_X_M, TABLE_Y_M
from exaone_ros.sim.textures import CARDBOARD, FLOORS, SIZE, TABLES

POOL_SIZE = 10
"""Objects that a scene can hold."""
HIDDEN_GROUP = 5
"""Geoms of this group are neither drawn nor collide."""
OBSTACLE_BOUND_M = 0.14
"""Half of the longest edge that an obstacle may have: MuJoCo bounds bodies when it compiles, so at their largest."""
OBJECT_MASS_KG = 0.12


def _textures() -> str:
    """Textures are blank here: `model.TabletopModel` fills in what `textures` computes."""
    names = [*(f"table_{n}" for n in TABLES), *(f"floor_{n}" for n in FLOORS), CARDBOARD]
    lines = []
    for name in names:
        repeat = "6 6" if name.startswith("floor_") else "1 1"
        kind = "cube" if name == CARDBOARD else "2d"
        lines.append(
            f'<texture name="{name}" type="{kind}" builtin="flat" rgb1="1 1 1" rgb2="1 1 1" '
            f'width="{SIZE}" height="{SIZE}"/>\n'
            f'<material name="{name}" texture="{name}" texrepeat="{repeat}" specular=".15" shininess=".3"/>'
        )
    return "\n".join(lines)


def _mug_meshes() -> str:
    meshes = []
    for index, (radius, height) in enumerate(MUG_SIZES_M):
        vertices, faces = mug(radius, height)
        vertex = " ".join(f"{value:.6f}" for value in vertices.ravel())
        face = " ".join(map(str, faces.ravel()))
        meshes.append(f'<mesh name="mug_{index}" vertex="{vertex}" face="{face}"/>')
    return "\n".join(meshes)


def _pool_object(index: int) -> str:
    """One object of the pool: a geom for each shape, of which a scene shows one."""
    mugs = "".join(
        f'<geom name="object_{index}_mug_{size}" class="pooled" type="mesh" mesh="mug_{size}"/>'
        f'<geom name="object_{index}_mug_{size}_inside" class="pooled" type="cylinder" '
        f'size="{radius - WALL_M} .0005" pos="0 0 {height / 2 - 0.018}"/>'
        for size, (radius, height) in enumerate(MUG_SIZES_M)
    )
    cube, ball, (radius, height) = LARGEST_M["cube"][0], LARGEST_M["ball"][0], LARGEST_M["cylinder"]
    return f"""
    <body name="object_{index}" pos="0 {0.3 * index - 1.5} -1" gravcomp="1">
      <freejoint name="object_{index}"/>
      <inertial pos="0 0 0" mass="{OBJECT_MASS_KG}" diaginertia="1e-4 1e-4 1e-4"/>
      <geom name="object_{index}_cube" class="pooled" type="box" size="{cube} {cube} {cube}"/>
      <geom name="object_{index}_ball" class="pooled" type="sphere" size="{ball}" condim="6" friction="1 .01 .01"/>
      <geom name="object_{index}_cylinder" class="pooled" type="cylinder" size="{radius} {height / 2}"/>
      {mugs}
    </body>"""


def _person() -> str:
    """A figure of 1.75 m that looks along +x; colours and arms are set per scene."""
    legs = arms = ""
    for name, sign in (("left", 1), ("right", -1)):
        y = 0.095 * sign
        legs += f"""
      <geom name="person_{name}_shoe" class="person" type="capsule" fromto="-.05 {y} .04 .15 {y} .035" size=".042"/>
      <geom name="person_{name}_shin" class="person" type="capsule" fromto="0 {y} .08 0 {y} .46" size=".062"/>
      <geom name="person_{name}_thigh" class="person" type="capsule" fromto="0 {y} .46 0 {y * 0.95} .88" size=".08"/>"""
        arms += f"""
      <body name="person_{name}_upper_arm" pos="0 {0.215 * sign} 1.40">
        <geom name="person_{name}_sleeve" class="person" type="capsule" fromto="0 0 0 0 0 -.27" size=".05"/>
        <body name="person_{name}_forearm" pos="0 0 -.27">
          <geom name="person_{name}_wrist" class="person" type="capsule" fromto="0 0 0 0 0 -.23" size=".038"/>
          <geom name="person_{name}_hand" class="person" type="ellipsoid" pos="0 0 -.31" size=".028 .043 .075"/>
        </body>
      </body>"""
    return f"""
    <body name="person" mocap="true" pos="0 0 -10">{legs}
      <geom name="person_hips" class="person" type="ellipsoid" pos="0 0 .93" size=".115 .17 .12"/>
      <geom name="person_belly" class="person" type="capsule" fromto="0 -.06 1.06 0 .06 1.06" size=".12"/>
      <geom name="person_chest" class="person" type="ellipsoid" pos="0 0 1.26" size=".125 .19 .22"/>
      <geom name="person_shoulders" class="person" type="capsule" fromto="0 -.16 1.40 0 .16 1.40" size=".062"/>
      <geom name="person_neck" class="person" type="capsule" fromto="0 0 1.42 .01 0 1.54" size=".052"/>
      <geom name="person_head" class="person" type="ellipsoid" pos=".015 0 1.63" size=".095 .078 .118"/>
      <geom name="person_hair" class="person" type="ellipsoid" pos="-.012 0 1.665" size=".094 .084 .10"/>
      {arms}
    </body>"""


def _obstacles() -> str:
    """A carton and a crate of unit size; scenes scale their parts."""
    b = OBSTACLE_BOUND_M
    tape = f"""
      <geom name="carton_tape_top" class="obstacle" type="box" size="{b} {b} {b}" rgba=".80 .72 .55 1"/>
      <geom name="carton_tape_side" class="obstacle" type="box" size="{b} {b} {b}" rgba=".80 .72 .55 1"/>
      <geom name="carton_label" class="obstacle" type="box" size="{b} {b} {b}" rgba=".93 .93 .91 1"/>"""
    slats = "".join(f'<geom name="crate_slat_{i}" class="obstacle" type="box" size="{b} {b} {b}"/>' for i in range(12))
    return f"""
    <body name="carton" mocap="true" pos="0 0 -10">
      <geom name="carton_box" class="obstacle" type="box" size="{b} {b} {b}" material="{CARDBOARD}"/>{tape}
    </body>
    <body name="crate" mocap="true" pos="0 0 -10">
      {slats}
      <geom name="crate_inside" class="obstacle" type="box" size="{b} {b} {b}"/>
    </body>"""


def _table() -> str:
    x, y = sum(TABLE_X_M) / 2, sum(TABLE_Y_M) / 2
    half_x, half_y = (TABLE_X_M[1] - TABLE_X_M[0]) / 2, (TABLE_Y_M[1] - TABLE_Y_M[0]) / 2
    leg_half = (TABLE_TOP_M - 0.04) / 2
    legs = "".join(
        f'<geom class="fixture" type="box" pos="{sx * (half_x - 0.05)} {sy * (half_y - 0.05)} {leg_half}" '
        f'size=".025 .025 {leg_half}" material="dark"/>'
        for sx in (1, -1)
        for sy in (1, -1)
    )
    return f"""
    <body name="table" pos="{x} {y} 0">
      <geom name="table_top" class="fixture" type="box" pos="0 0 {TABLE_TOP_M - 0.02}" size="{half_x} {half_y} .02"
            material="table_{next(iter(TABLES))}"/>{legs}
    </body>"""


def world_mjcf(*, free: bool = False, shadow_px: int = 1024, samples: int = 4, max_side_px: int = 1920) -> str:
    """MJCF of the whole world.

    Args:
        free: let the robot stand on its own feet instead of pinning its pelvis.
        shadow_px: side of the shadow map.
        samples: per pixel of the off-screen buffer (antialiasing); 0 or 1 = none.
        max_side_px: width and height of the off-screen buffer.
    """
    pool = "".join(_pool_object(i) for i in range(POOL_SIZE))
    return f"""<mujoco model="exaone_tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.002" integrator="implicitfast" cone="elliptic" impratio="5"/>
  <size memory="20M"/>
  <statistic extent="1.6" center=".6 0 .8"/>
  <visual>
    <global offwidth="{max_side_px}" offheight="{max_side_px}"/>
    <map znear="0.01" zfar="12" shadowclip="0.75"/>
    <quality shadowsize="{shadow_px}" offsamples="{samples}"/>
    <headlight ambient=".3 .3 .3" diffuse=".2 .2 .2" specular=".05 .05 .05"/>
  </visual>
  <asset>
    <texture type="skybox" builtin="flat" rgb1=".75 .78 .8" rgb2=".75 .78 .8" width="16" height="16"/>
    <material name="object" specular=".25" shininess=".4"/>
    {_textures()}
    {_mug_meshes()}
    {humanoid.humanoid_materials()}
  </asset>
  <default>
    <geom friction="1 .005 .0001" solref=".005 1"/>
    {humanoid.humanoid_defaults()}
    <default class="pooled">
      <geom group="{HIDDEN_GROUP}" material="object" mass="0" contype="0" conaffinity="0"/>
    </default>
    <default class="person"><geom group="0" mass=".01" contype="0" conaffinity="0"/></default>
    <default class="obstacle"><geom group="{HIDDEN_GROUP}" mass=".01" contype="0" conaffinity="0"/></default>
    <default class="fixture"><geom contype="1" conaffinity="1"/></default>
  </default>
  <worldbody>
    <light name="key" directional="true" pos="0 0 3" dir="0 0 -1" diffuse=".6 .6 .6" specular=".25 .25 .25"
           castshadow="true"/>
    <light name="fill" directional="true" pos="-1 2 3" dir=".4 -.5 -1" diffuse=".2 .2 .2" specular="0 0 0"
           castshadow="false"/>
    <geom name="floor" class="fixture" type="plane" size="5 5 .1" material="floor_{next(iter(FLOORS))}"/>
    <geom name="wall" class="fixture" type="box" pos="3.6 0 1.5" size=".05 5 1.5"/>
    {_table()}
    {pool}
    {_obstacles()}
    {_person()}
    {humanoid.humanoid_body(free)}
  </worldbody>
  <actuator>
{humanoid.humanoid_actuators()}
  </actuator>
</mujoco>"""


def robot_mjcf() -> str:
    """MJCF of the robot alone, its pelvis pinned: all that kinematics needs."""
    return f"""<mujoco model="exaone_humanoid">
  <compiler angle="radian" autolimits="true"/>
  <asset>{humanoid.humanoid_materials()}</asset>
  <default>{humanoid.humanoid_defaults()}</default>
  <worldbody>{humanoid.humanoid_body(False)}</worldbody>
  <actuator>
{humanoid.humanoid_actuators()}
  </actuator>
</mujoco>"""


def yaw_quaternion(yaw_rad: float) -> tuple[float, float, float, float]:
    """Quaternion (w, x, y, z) of a turn about the vertical."""
    return math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)
