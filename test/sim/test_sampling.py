"""Random scenes keep their promises; no MuJoCo here."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.sampling import SceneOptions, jittered_rgb, sample_scene
from exaone_ros.sim.scene import TABLE_X_M, TABLE_Y_M
from exaone_ros.sim.vocabulary import COLOURS, RGB, SHAPES


def scenes(count: int, options: SceneOptions | None = None, aspect: float = 4 / 3):  # type: ignore[no-untyped-def]
    return [sample_scene(np.random.default_rng(seed), options, aspect) for seed in range(count)]


def test_same_seed_same_scene() -> None:
    assert scenes(5) == scenes(5)


def test_nothing_overlaps_and_all_stands_on_the_table() -> None:
    for scene in scenes(80, SceneOptions(objects=(5, 10), obstacle_share=0.5)):
        for a, b in itertools.combinations(scene.objects, 2):
            assert math.hypot(a.x_m - b.x_m, a.y_m - b.y_m) >= a.footprint_m + b.footprint_m
        for thing in scene.objects:
            assert TABLE_X_M[0] < thing.x_m - thing.radius_m and thing.x_m + thing.radius_m < TABLE_X_M[1]
            assert TABLE_Y_M[0] < thing.y_m - thing.radius_m and thing.y_m + thing.radius_m < TABLE_Y_M[1]
            if scene.obstacle is not None:
                reach = min(scene.obstacle.size_m[:2]) / 2
                away = math.hypot(thing.x_m - scene.obstacle.x_m, thing.y_m - scene.obstacle.y_m)
                assert away > reach + thing.radius_m and thing.x_m > scene.obstacle.x_m


def test_counts_shares_and_variety() -> None:
    many = scenes(400)
    counts = [len(scene.objects) for scene in many]
    assert min(counts) == 0 and max(counts) == 10
    assert 0.18 < np.mean([s.person is not None for s in many]) < 0.32
    assert 0.18 < np.mean([s.obstacle is not None for s in many]) < 0.32
    assert {(o.colour, o.shape) for s in many for o in s.objects} == set(itertools.product(COLOURS, SHAPES))
    assert any(s.light.key == 0 for s in many)


def test_centres_are_in_view() -> None:
    for aspect in (4 / 3, 16 / 9, 1.0):
        for scene in scenes(30, aspect=aspect):
            view = scene.camera.view(round(480 * aspect), 480)
            for thing in scene.objects:
                (pixel,), (depth,) = view.project([thing.centre_m])
                assert depth > 0 and 0 < pixel[0] < 480 * aspect and 0 < pixel[1] < 480


def test_excluded_and_included_pairs_are_honoured() -> None:
    excluded = frozenset({("red", "cube"), ("blue", "mug")})
    pairs = {(o.colour, o.shape) for s in scenes(200, SceneOptions(exclude_pairs=excluded)) for o in s.objects}
    assert not pairs & excluded and len(pairs) == len(COLOURS) * len(SHAPES) - 2
    included = frozenset({("red", "cube"), ("green", "ball")})
    pairs = {(o.colour, o.shape) for s in scenes(40, SceneOptions(include_pairs=included)) for o in s.objects}
    assert pairs == included


@pytest.mark.parametrize("colour", COLOURS)
def test_jitter_keeps_the_colour_nearest_to_its_name(colour: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        rgb = np.array(jittered_rgb(rng, colour))
        assert min(RGB, key=lambda c: float(np.linalg.norm(rgb - RGB[c]))) == colour


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"objects": (0, 11)}, "objects"),
        ({"objects": (3, 2)}, "objects"),
        ({"person_share": 1.5}, "person_share"),
        ({"fovy_deg": (5.0, 50.0)}, "fovy_deg"),
        ({"exclude_pairs": frozenset({("pink", "cube")})}, "pink"),
        ({"include_pairs": frozenset({("red", "cube")}), "exclude_pairs": frozenset({("red", "cube")})}, "no pair"),
        ({"camera_jitter": -1.0}, "camera_jitter"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], word: str) -> None:
    with pytest.raises(SimulationError, match=word):
        SceneOptions(**options)  # type: ignore[arg-type]
