"""The live world: things stay put, the robot stands and follows, and the camera's numbers are those of its image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.humanoid import JOINTS
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import TABLE_TOP_M, Scene
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.world import STEP_S, HeadMotion, World, render_snapshot

pytest.importorskip("mujoco")

STILL = SceneOptions(objects=(6, 6), camera_jitter=0.0, obstacle_share=1.0, person_share=0.0)


def scene_of(seed: int, options: SceneOptions = STILL) -> Scene:
    return sample_scene(np.random.default_rng(seed), options)


def place_of(world: World, joint: str) -> float:
    states = world.joint_states()
    return float(states.positions[states.names.index(joint)])


def test_objects_rest_where_the_scene_puts_them(renderer: TabletopRenderer) -> None:
    world = World(scene_of(1))
    before = render_snapshot(renderer, world.snapshot())
    for _ in range(50):
        world.step(20)
    assert world.time_s == pytest.approx(1000 * STEP_S)
    after = render_snapshot(renderer, world.snapshot())
    assert len(after.objects) == len(before.objects) > 3
    for old, new in zip(before.objects, after.objects, strict=True):
        assert np.abs(np.subtract(old.box, new.box)).max() <= 1
        assert abs(old.distance_m - new.distance_m) < 2e-3


def test_stepping_is_deterministic() -> None:
    ends = []
    for _ in range(2):
        world = World(scene_of(2), HeadMotion(0.3, 0.1, 2.0))
        for _ in range(20):
            world.step(5)
        ends.append(world.snapshot().qpos)
    assert np.array_equal(*ends)


def test_free_robot_stands_for_ten_seconds() -> None:
    world = World(scene_of(3), HeadMotion(0.2, 0.1), free=True)
    start = world.joint_states().positions
    for _ in range(100):
        world.step(50)
    with TabletopRenderer(64, 48, shadows=False, samples=0, free=True) as small:
        render_snapshot(small, world.snapshot())
        still = scene_of(3).camera.view(64, 48).position
        assert np.linalg.norm(small.view().position - still) < 0.03
    legs = [i for i, joint in enumerate(JOINTS) if "hip" in joint or "knee" in joint or "ankle" in joint]
    assert np.abs(world.joint_states().positions - start)[legs].max() < 0.05


def test_head_sweeps_and_the_view_follows(renderer: TabletopRenderer) -> None:
    world = World(scene_of(4), HeadMotion(pan_rad=0.25, period_s=2.0))
    for _ in range(50):  # a quarter of the period: the head is at its leftmost
        world.step(5)
    assert place_of(world, "head_pan") == pytest.approx(0.25, abs=0.06)
    render_snapshot(renderer, world.snapshot())
    ahead = renderer.view().rotation[2]
    assert np.arctan2(ahead[1], ahead[0]) == pytest.approx(place_of(world, "head_pan"), abs=0.01)


def test_camera_info_is_the_projection_of_the_image() -> None:
    """The corners of a cube, projected with K, span its box on the image within a pixel."""
    options = dataclasses.replace(STILL, objects=(1, 1), obstacle_share=0.0, include_pairs=frozenset({("red", "cube")}))
    checked = 0
    with TabletopRenderer(640, 480, shadows=False, samples=0) as vga:
        for seed in range(6):
            world = World(scene_of(seed, options), HeadMotion(0.1, 0.1, 1.0))
            world.step(60 + 10 * seed)
            frame = render_snapshot(vga, world.snapshot())
            view, (thing,) = vga.view(), world.scene.objects
            half, turn = thing.radius_m, thing.yaw_rad
            corners = np.array([(x, y, z) for x in (-half, half) for y in (-half, half) for z in (-half, half)])
            rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
            local = (corners @ rotation.T + thing.centre_m - view.position) @ view.rotation.T
            k = np.array(view.intrinsics.k).reshape(3, 3)
            pixels = (local / local[:, 2:]) @ k.T  # in ROS coordinates: counted from pixel centres
            expected = [*(pixels[:, :2].min(axis=0) + 0.5), *(pixels[:, :2].max(axis=0) + 0.5)]
            if min(expected) < 1 or expected[2] > 639 or expected[3] > 479:
                continue
            (seen,) = frame.objects
            assert np.abs(np.subtract(seen.box, expected)).max() <= 1.0
            assert seen.distance_m == pytest.approx(np.linalg.norm(np.array(thing.centre_m) - view.position), abs=2e-3)
            checked += 1
    assert checked >= 3


def test_new_scene_leaves_robot_and_time_alone(renderer: TabletopRenderer) -> None:
    world = World(scene_of(5), HeadMotion(0.3, 0.0, 2.0))
    world.step(200)
    time, joints = world.time_s, world.joint_states()
    scene = scene_of(6)
    world.set_scene(scene)
    assert world.time_s == time and world.snapshot().scene is scene
    assert np.array_equal(world.joint_states().positions, joints.positions)
    assert np.array_equal(world.joint_states().velocities, joints.velocities)
    pairs = sorted((o.colour, o.shape) for o in render_snapshot(renderer, world.snapshot()).objects)
    assert set(pairs) <= {(o.colour, o.shape) for o in scene.objects}
    world.step(10)


def test_trajectory_is_followed_and_its_end_held() -> None:
    world = World(scene_of(7))
    world.set_trajectory(Trajectory.checked(["right_elbow", "head_pan"], [0.2, 0.5], [[-1.3, 0.1], [-1.6, 0.3]]))
    for _ in range(100):
        world.step(5)
    assert place_of(world, "right_elbow") == pytest.approx(-1.6, abs=0.02)
    assert place_of(world, "head_pan") == pytest.approx(0.3, abs=0.02)
    assert place_of(world, "left_elbow") == pytest.approx(-1.1, abs=0.02)


def test_things_fall_when_nothing_holds_them(renderer: TabletopRenderer) -> None:
    """The table really carries: an object beyond its edge drops below it."""
    scene = scene_of(8, dataclasses.replace(STILL, objects=(1, 1), obstacle_share=0.0))
    beside = dataclasses.replace(scene.objects[0], x_m=1.4)
    world = World(dataclasses.replace(scene, objects=(beside,)))
    world.step(500)
    render_snapshot(renderer, world.snapshot())
    position, _ = renderer._tabletop.object_pose(0)
    assert position[2] < TABLE_TOP_M / 2


@pytest.mark.parametrize("steps", [0, -1, 10**6])
def test_absurd_steps_are_refused(steps: int) -> None:
    with pytest.raises(SimulationError, match="steps"):
        World(scene_of(1)).step(steps)


def test_absurd_head_motion_is_refused() -> None:
    with pytest.raises(SimulationError, match="period"):
        HeadMotion(period_s=0.0)
    with pytest.raises(SimulationError, match="finite"):
        HeadMotion(pan_rad=float("nan"))
