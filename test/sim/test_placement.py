"""Things stand on the table and not inside each other."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.placement import Footprint, check_placement
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import Scene, TableObject, names_of
from exaone_ros.sim.world_file import parse_world


def at(x: float, y: float, shape: str = "cube", colour: str = "red", **more: float) -> str:
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    return f"  - {{shape: {shape}, colour: {colour}, x_m: {x}, y_m: {y}{extra}}}\n"


def scene_of(*objects: str, rest: str = "") -> Scene:
    return parse_world("objects:\n" + "".join(objects) + rest)


@pytest.mark.parametrize(
    ("a", "b", "gap"),
    [
        (Footprint(0, 0, radius_m=1), Footprint(3, 0, radius_m=1), 1.0),
        (Footprint(0, 0, half_m=(1, 1)), Footprint(3, 0, half_m=(1, 1)), 1.0),
        (Footprint(0, 0, half_m=(1, 1)), Footprint(3, 3, half_m=(1, 1)), math.sqrt(2)),
        (Footprint(0, 0, math.pi / 4, (1, 1)), Footprint(3, 0, radius_m=0.5), 2.5 - math.sqrt(2)),
    ],
)
def test_gaps_are_those_of_geometry(a: Footprint, b: Footprint, gap: float) -> None:
    assert a.distance_m(b) == pytest.approx(gap)
    assert b.distance_m(a) == pytest.approx(gap)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Footprint(0, 0, half_m=(2, 0.1)), Footprint(0, 0, half_m=(0.1, 2))),  # a plus sign: no corner inside the other
        (Footprint(0, 0, half_m=(2, 2)), Footprint(0.1, 0, half_m=(0.1, 0.1))),
        (Footprint(0, 0, half_m=(2, 2)), Footprint(0.1, 0, radius_m=0.1)),
    ],
)
def test_overlaps_have_no_gap(a: Footprint, b: Footprint) -> None:
    assert a.distance_m(b) < 0 and b.distance_m(a) < 0


def test_sampled_scenes_are_allowed() -> None:
    for seed in range(60):
        check_placement(sample_scene(np.random.default_rng(seed), SceneOptions(obstacle_share=1.0, person_share=1.0)))


def test_cubes_may_touch_but_not_overlap() -> None:
    scene_of(at(0.5, 0.0), at(0.57, 0.0))
    with pytest.raises(SimulationError, match=r"red_cube .* inside the red_cube_2"):
        scene_of(at(0.5, 0.0), at(0.56, 0.0))
    scene_of(at(0.5, 0.0, yaw_rad=0.0), at(0.566, 0.07, yaw_rad=0.0))  # side by side, closer than their circles


def test_handle_of_a_mug_counts() -> None:
    scene_of(at(0.5, 0.0, "mug"), at(0.5, 0.075, "cube"))
    with pytest.raises(SimulationError, match=r"red_mug at \(0.5, 0\) m stands inside the red_cube"):
        scene_of(at(0.5, 0.0, "mug", yaw_rad=math.pi / 2), at(0.5, 0.08, "cube"))


def test_object_inside_the_obstacle_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"red_ball .* inside the obstacle"):
        scene_of(at(0.6, 0.0, "ball"), rest="obstacle: {x_m: 0.55, y_m: 0.02}\n")


@pytest.mark.parametrize(("x", "y"), [(0.2, 0.0), (1.1, 0.0), (0.5, 0.7)])
def test_object_beside_the_table_is_refused(x: float, y: float) -> None:
    with pytest.raises(SimulationError, match="expected a place on the table"):
        scene_of(at(x, y))


@pytest.mark.parametrize(("place", "what"), [("x_m: 0.9, y_m: 0.2", "table"), ("x_m: 0.05, y_m: 0.0", "robot")])
def test_person_inside_something_is_refused(place: str, what: str) -> None:
    with pytest.raises(SimulationError, match=f"inside the {what}"):
        parse_world(f"person: {{{place}}}")


def test_names_are_unique_and_say_what_it_is() -> None:
    cube = TableObject("cube", "red", 0.5, 0.0, 0.0, 0.035, 0.07, (0.8, 0.1, 0.1))
    ball = dataclasses.replace(cube, shape="ball", colour="blue")
    assert names_of([cube, ball, cube, cube]) == ("red_cube", "blue_ball", "red_cube_2", "red_cube_3")
    assert names_of([]) == ()
