"""The robot in MuJoCo's physics: it stands, its arms reach, and nothing in it is where it cannot be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from exaone_ros.action.kinematics import Kinematics
from exaone_ros.sim import humanoid
from exaone_ros.sim.mjcf import robot_mjcf
from exaone_ros.sim.model import TabletopModel
from exaone_ros.sim.scene import TABLE_TOP_M
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.world import World
from exaone_ros.sim.world_file import load_world

mujoco = pytest.importorskip("mujoco")

HOME = dict.fromkeys(humanoid.JOINTS, 0.0) | humanoid.HOME_RAD
ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_yaw", "wrist_pitch")
CHUNK = 25


def grasp_m(world: World, side: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Where the fingers of a hand meet, in the world, as physics has it now."""
    snapshot = world.snapshot()
    tabletop = world._tabletop
    scratch = mujoco.MjData(tabletop.model)
    scratch.qpos[:] = snapshot.qpos
    mujoco.mj_kinematics(tabletop.model, scratch)
    return np.array(scratch.site(f"{side}_grasp").xpos)


def run(world: World, seconds: float) -> None:
    for _ in range(round(seconds / 0.002 / CHUNK)):
        world.step(CHUNK)


@pytest.mark.parametrize(
    ("side", "target", "waist", "within_m"),
    [
        ("right", (0.48, -0.20, TABLE_TOP_M + 0.12), False, 5e-3),
        ("left", (0.50, 0.25, TABLE_TOP_M + 0.12), False, 5e-3),
        ("right", (0.62, -0.05, TABLE_TOP_M + 0.10), True, 1e-2),  # the leaning torso weighs on the waist's motor
    ],
)
def test_the_arm_reaches(side: str, target: tuple[float, float, float], waist: bool, within_m: float) -> None:
    """Inverse kinematics gives the joints, a trajectory moves them, physics says where the hand came to."""
    joints = [*(("waist_yaw", "waist_pitch") if waist else ()), *(f"{side}_{joint}" for joint in ARM)]
    kinematics, world = Kinematics(robot_mjcf()), World(load_world("empty"))
    posture, path = dict(HOME), []
    x, y, z = target
    # The hand hangs below the table's top: up in front of its edge, over it, down.
    for stop in ((0.25, y, 1.05), (x, y, z + 0.1), target):
        found = kinematics.reach(f"{side}_grasp", joints, posture, np.array(stop), rest=HOME)
        assert found.error_m < 1e-3, stop
        posture |= dict(zip(joints, found.positions, strict=True))
        path.append([float(position) for position in found.positions])
    world.set_trajectory(Trajectory.checked(joints, [1.0, 2.0, 3.0], path))
    run(world, 4.0)
    assert np.linalg.norm(grasp_m(world, side) - target) < within_m


def test_it_stands_on_its_feet_for_ten_seconds_while_the_arms_move() -> None:
    world = World(load_world("empty"), free=True)
    arms = ["right_shoulder_pitch", "right_elbow", "left_shoulder_pitch", "left_elbow"]
    points = [[0.45, -1.1, 0.45, -1.1], [-0.4, -0.7, -0.4, -0.7], [0.45, -1.1, 0.45, -1.1]]
    world.set_trajectory(Trajectory.checked(arms, [0.5, 3.0, 6.0], points))
    root = int(world._tabletop.model.joint("root").qposadr[0])
    start = world.snapshot().qpos[root : root + 3].copy()
    run(world, 10.0)
    end = world.snapshot().qpos[root : root + 7]
    assert np.linalg.norm(end[:3] - start) < 0.02
    assert end[3] > 0.9995  # upright within 3.6 degrees


@pytest.fixture(scope="module")
def tabletop() -> TabletopModel:
    model = TabletopModel()
    model.apply(load_world("tabletop"))
    return model


def robot_geoms(model: mujoco.MjModel) -> dict[int, list[int]]:
    """Geoms of each of the robot's bodies."""
    root = model.body("pelvis").id
    bodies = [b for b in range(model.nbody) if model.body_rootid[b] == root]
    return {b: [g for g in range(model.ngeom) if model.geom_bodyid[g] == b] for b in bodies}


def gap_m(tabletop: TabletopModel, a: int, b: int) -> float:
    return float(mujoco.mj_geomDistance(tabletop.model, tabletop.data, a, b, 0.5, None))


def test_at_home_no_part_is_inside_another_or_in_the_table(tabletop: TabletopModel) -> None:
    """Neighbours overlap by design: a joint's ball lies in the limb."""
    model = tabletop.model
    bodies = robot_geoms(model)
    for a, b in itertools.combinations(bodies, 2):
        related = model.body_parentid[a] == b or model.body_parentid[b] == a
        siblings = model.body_parentid[a] == model.body_parentid[b]
        if related or siblings:
            continue
        for g, h in itertools.product(bodies[a], bodies[b]):
            assert gap_m(tabletop, g, h) > 0.0, f"{model.body(a).name} is inside {model.body(b).name}"
    table = model.geom("table_top").id
    for body, geoms in bodies.items():
        for g in geoms:
            assert gap_m(tabletop, g, table) > 0.005, f"{model.body(body).name} is in the table"
    for sole in ("left_sole", "right_sole"):
        lowest = tabletop.data.geom(sole).xpos[2] - model.geom(sole).size[2]
        assert abs(lowest) < 0.005, "the soles are on the floor"


def test_both_sides_are_mirror_images(tabletop: TabletopModel) -> None:
    model = tabletop.model
    for b in robot_geoms(model):
        name = model.body(b).name
        if not name.startswith("left_"):
            continue
        other = model.body("right_" + name.removeprefix("left_"))
        assert model.body_mass[b] == pytest.approx(float(other.mass[0]))
        assert sorted(model.body_inertia[b]) == pytest.approx(sorted(other.inertia))
        if "finger" not in name:  # the two fingers of a hand mirror each other
            assert model.body_pos[b] == pytest.approx(other.pos * (1, -1, 1))


def test_inertias_are_those_of_bodies_with_a_density_of_this_world(tabletop: TabletopModel) -> None:
    """Positive, within the triangle inequality, and a radius of gyration no larger than the body."""
    model = tabletop.model
    for b, geoms in robot_geoms(model).items():
        low, middle, high = sorted(model.body_inertia[b])
        assert low > 0 and low + middle >= high * (1 - 1e-9), model.body(b).name
        extent = max(float(model.geom_rbound[g] + np.linalg.norm(model.geom_pos[g])) for g in geoms)
        assert np.sqrt(high / model.body_mass[b]) < extent, model.body(b).name
    total = float(model.body("pelvis").subtreemass[0])
    assert 40 < total < 60
