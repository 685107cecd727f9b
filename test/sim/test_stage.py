"""Things by name: placed, moved and removed; and what is refused, with everything left as it was."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import TABLE_TOP_M, Scene
from exaone_ros.sim.stage import MAX_OBJECTS, Place, Stage
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.world import World, render_snapshot

pytest.importorskip("mujoco")

EMPTY = SceneOptions(objects=(0, 0), person_share=0.0, obstacle_share=0.0, camera_jitter=0.0, fovy_deg=(48.0, 48.0))


def empty_scene(seed: int = 0) -> Scene:
    return sample_scene(np.random.default_rng(seed), EMPTY)


@pytest.fixture
def world() -> World:
    return World(empty_scene())


def where(world: World) -> dict[str, tuple[float, float, float]]:
    return {pose.name: pose.position for pose in world.snapshot().objects}


def test_names_say_what_things_are_and_tell_twins_apart() -> None:
    stage = Stage.of(empty_scene())
    for expected in ("red_cube", "red_cube_2", "red_cube_3"):
        stage, given = stage.placed("red cube", Place(0.6, 0.1 * len(stage.names)))
        assert given == expected
    stage = stage.removed("red_cube_2")
    assert stage.placed("red cube", Place(0.6, 0.3))[1] == "red_cube_2"
    stage, _ = stage.placed("person", Place(1.3, 0.0))
    stage, given = stage.placed("blue mug", Place(0.7, -0.3), "cup")
    assert given == "cup" and stage.all_names == ("red_cube", "red_cube_3", "cup", "person")


@pytest.mark.parametrize(
    ("class_id", "place", "name", "word"),
    [
        ("unicorn", Place(0.6, 0), "", "unicorn"),
        ("cube", Place(0.6, 0), "", "expected"),
        ("red objects", Place(0.6, 0), "", "red objects"),
        ("red cube", Place(2.0, 0), "", "off the table"),
        ("red cube", Place(0.6, 0, 0.0, 2.0), "", "stands with its centre"),
        ("red cube", Place(0.6, 0), "there", "taken"),
        ("red cube", Place(0.6, 0), "person", "taken"),
        ("person", Place(1.3, 0), "Bob", "Bob"),
        ("person", Place(9.0, 0), "", "off the floor"),
        ("obstacle", Place(0.5, 0), "", "already"),
    ],
)
def test_what_cannot_be_placed_is_refused(class_id: str, place: Place, name: str, word: str) -> None:
    stage, _ = Stage.of(empty_scene()).placed("obstacle", Place(0.5, -0.2))
    stage, _ = stage.placed("blue ball", Place(0.8, 0.2), "there")
    with pytest.raises(SimulationError, match=word):
        stage.placed(class_id, place, name)


def test_a_full_table_takes_no_more() -> None:
    stage = Stage.of(empty_scene())
    for index in range(MAX_OBJECTS):
        stage, _ = stage.placed("red ball", Place(0.5, -0.4 + 0.08 * index))
    with pytest.raises(SimulationError, match="remove one"):
        stage.placed("red ball", Place(0.7, 0.0))


@pytest.mark.parametrize(
    ("position", "quaternion", "word"),
    [
        ((float("nan"), 0, 0), (0, 0, 0, 1), "finite"),
        ((0.5, 0, 0), (0, 0, 0, 0), "norm"),
        ((0.5, 0, 0), (0.7071, 0, 0, 0.7071), "tilts"),
        ((0.5, float("inf"), 0), (0, 0, 0, 1), "finite"),
    ],
)
def test_poses_that_are_none_are_refused(position: tuple[float, ...], quaternion: tuple[float, ...], word: str) -> None:
    with pytest.raises(SimulationError, match=word):
        Place.of_pose(position, quaternion)


def test_a_pose_turns_about_the_vertical() -> None:
    place = Place.of_pose((0.5, 0.1, 0.0), (0.0, 0.0, math.sin(0.4), math.cos(0.4)))
    assert place.yaw_rad == pytest.approx(0.8) and (place.x_m, place.y_m) == (0.5, 0.1)


def test_what_is_placed_stands_there_and_is_seen(world: World, renderer: TabletopRenderer) -> None:
    world.place("red cube", Place(0.60, 0.10, 0.3))
    world.place("blue mug", Place(0.70, -0.15))
    world.place("person", Place(1.25, 0.2, math.pi))
    world.place("obstacle", Place(0.48, 0.0))
    world.step(250)
    poses = where(world)
    assert np.allclose(poses["red_cube"], (0.60, 0.10, TABLE_TOP_M + 0.035), atol=2e-3)
    assert np.allclose(poses["blue_mug"][:2], (0.70, -0.15), atol=2e-3)
    assert poses["person"][:2] == (1.25, 0.2)
    frame = render_snapshot(renderer, world.snapshot())
    assert {(thing.colour, thing.shape) for thing in frame.objects} == {("red", "cube"), ("blue", "mug")}
    assert frame.person is not None and frame.obstacle is not None


def test_moving_and_removing_leave_the_others_alone(world: World) -> None:
    for index in range(4):
        world.place("green cube", Place(0.6, -0.3 + 0.2 * index))
    world.set_trajectory(Trajectory.checked(["head_pan"], [0.1], [[0.2]]))
    world.step(100)
    before, time_s, head = where(world), world.time_s, world.joint_states()
    world.move("green_cube_2", Place(0.75, 0.0))
    world.remove("green_cube")
    after = where(world)
    assert world.names == ("green_cube_2", "green_cube_3", "green_cube_4")
    assert after["green_cube_2"][:2] == (0.75, 0.0)
    for name in ("green_cube_3", "green_cube_4"):
        assert after[name] == before[name]
    assert world.time_s == time_s and np.array_equal(world.joint_states().positions, head.positions)
    world.step(100)
    assert np.allclose(where(world)["green_cube_2"], (0.75, 0.0, TABLE_TOP_M + 0.035), atol=2e-3)


def test_a_place_inside_another_body_is_refused_and_nothing_changes(world: World) -> None:
    world.place("red cube", Place(0.60, 0.10))
    world.place("obstacle", Place(0.50, -0.20))
    world.step(50)
    before = world.snapshot()
    for attempt, word in (
        (lambda: world.place("blue ball", Place(0.63, 0.12)), "inside the red_cube"),
        (lambda: world.place("blue ball", Place(0.50, -0.20)), "inside the obstacle"),
        (lambda: world.move("red_cube", Place(0.52, -0.18)), "inside the obstacle"),
        (lambda: world.move("obstacle", Place(0.60, 0.10)), "inside the red_cube"),
        (lambda: world.place("person", Place(0.9, 0.0)), "inside the table"),
        (lambda: world.place("person", Place(0.0, 0.05)), "person would be inside the"),
        (lambda: world.move("red cube", Place(0.5, 0.0)), "nothing named 'red cube'"),
        (lambda: world.remove("person"), "nothing named 'person'"),
    ):
        with pytest.raises(SimulationError, match=word):
            attempt()
        after = world.snapshot()
        assert after.objects == before.objects and np.array_equal(after.qpos, before.qpos)
    world.place("blue ball", Place(0.70, 0.12))  # beside it there is room


def test_a_hand_is_a_body_too(world: World) -> None:
    over_the_edge = [[0.3, -2.2], [-0.3, -0.9]]
    world.set_trajectory(Trajectory.checked(["left_shoulder_pitch", "left_elbow"], [0.4, 0.8], over_the_edge))
    world.step(600)
    x, y, z = (float(value) for value in world._tabletop.data.body("left_finger_0_link").xpos)
    assert x > 0.31 and z < TABLE_TOP_M + 0.11, f"the test needs the hand low above the table; it is at {x, y, z}"
    with pytest.raises(SimulationError, match="inside the left_"):
        world.place("red cylinder", Place(x, y))


def test_reset_begins_anew(world: World) -> None:
    world.set_trajectory(Trajectory.checked(["head_pan"], [0.1], [[0.4]]))
    world.place("red cube", Place(0.6, 0.0))
    world.step(200)
    world.reset(empty_scene())
    assert world.time_s == 0 and world.names == ()
    fresh = World(empty_scene())
    for each in (world, fresh):
        each.step(100)
    assert np.array_equal(world.snapshot().qpos, fresh.snapshot().qpos)


def test_the_way_does_not_depend_on_how_time_is_cut() -> None:
    ends = []
    for pieces in ([100], [1, 2, 3, 94], [50, 50]):
        made = World(empty_scene())
        made.set_trajectory(Trajectory.checked(["head_pan", "right_elbow"], [0.05, 0.15], [[0.2, -1.2], [0.4, -1.5]]))
        for steps in pieces:
            made.step(steps)
        ends.append(made.snapshot().qpos)
    assert np.array_equal(ends[0], ends[1]) and np.array_equal(ends[0], ends[2])


def test_depth_is_the_distance_along_the_optical_axis(world: World, renderer: TabletopRenderer) -> None:
    world.place("red cube", Place(0.6, 0.05))
    frame = render_snapshot(renderer, world.snapshot(), depth=True)
    depth, view = frame.depth_m, renderer.view()
    assert depth is not None and depth.dtype == np.float32 and depth.shape == frame.image.shape[:2]
    (cube,) = frame.objects
    # Rays through the pixels' centres, as long as their depth says, end on the cube's surface and on the table.
    rows, columns = np.nonzero(frame.instance == 0)
    points = world_points(view, rows, columns, depth[rows, columns])
    off = np.abs(points - (0.6, 0.05, TABLE_TOP_M + 0.035))
    assert off[:, 2].max() < 0.035 + 0.004 and np.hypot(off[:, 0], off[:, 1]).max() < 0.035 * math.sqrt(2) + 0.004
    x1, _, x2, y2 = (int(value) for value in cube.box)
    beside = world_points(view, np.array([y2 + 10]), np.array([(x1 + x2) // 2]), depth[[y2 + 10], [(x1 + x2) // 2]])
    assert beside[0, 2] == pytest.approx(TABLE_TOP_M, abs=2e-3)
    assert render_snapshot(renderer, world.snapshot()).depth_m is None
    bare = render_snapshot(renderer, world.snapshot(), depth=True, labels=False)
    assert np.array_equal(bare.image, frame.image) and not bare.labelled and not bare.objects
    assert bare.depth_m is not None and np.allclose(bare.depth_m, depth, atol=2e-3)


def world_points(view, rows, columns, depth):  # type: ignore[no-untyped-def]
    k = view.intrinsics.k
    local = np.stack([(columns - k[2]) / k[0] * depth, (rows - k[5]) / k[4] * depth, depth], axis=1)
    return local @ view.rotation + view.position
