"""Rendered frames: the same for the same seed, and labelled exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import Scene
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.vocabulary import COLOURS, RGB, SHAPES

pytest.importorskip("mujoco")

SEEDS = range(40, 52)


def scene_of(seed: int, **options: object) -> Scene:
    return sample_scene(np.random.default_rng(seed), SceneOptions(**options))  # type: ignore[arg-type]


def test_same_seed_gives_the_same_bytes_in_a_fresh_renderer(renderer: TabletopRenderer) -> None:
    first = [renderer.render(seed) for seed in (3, 4, 3)]
    with TabletopRenderer(320, 240, samples=0) as other:
        again = other.render(3)
    for frame in (first[2], again):
        assert np.array_equal(frame.image, first[0].image)
        assert np.array_equal(frame.instance, first[0].instance)
        assert frame.objects == first[0].objects
    assert not np.array_equal(first[0].image, first[1].image)


def test_frame_has_the_promised_types(renderer: TabletopRenderer) -> None:
    frame = renderer.render(7)
    assert frame.image.shape == (240, 320, 3) and frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
    assert frame.instance.shape == (240, 320) and frame.instance.dtype == np.int16


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_are_tight_around_the_instances(renderer: TabletopRenderer, seed: int) -> None:
    frame = renderer.render(seed, SceneOptions(objects=(3, 10)))
    assert [o.box[0] for o in frame.objects] == sorted(o.box[0] for o in frame.objects)
    assert set(np.unique(frame.instance)) - {-1} == set(range(len(frame.objects)))
    for index, thing in enumerate(frame.objects):
        ys, xs = np.nonzero(frame.instance == index)
        assert thing.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert thing.visible_px == len(xs)


def test_instances_carry_their_colour(renderer: TabletopRenderer) -> None:
    """Labels and image are drawn in two passes: the pixels under a label must have its colour."""
    checked = 0
    for seed in SEEDS:
        frame = renderer.render(seed, SceneOptions(objects=(4, 8), ambient_share=1.0))
        for index, thing in enumerate(frame.objects):
            if thing.colour in ("white", "black") or thing.shape == "mug":
                continue
            pixels = frame.image[frame.instance == index].astype(float)
            hue = np.median(pixels / pixels.sum(axis=1, keepdims=True), axis=0)
            nominal = {c: np.array(RGB[c]) / sum(RGB[c]) for c in COLOURS if c not in ("white", "black")}
            assert min(nominal, key=lambda c: float(np.abs(nominal[c] - hue).sum())) == thing.colour
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("shape", SHAPES)
def test_unhidden_objects_are_wholly_visible(renderer: TabletopRenderer, shape: str) -> None:
    options = SceneOptions(objects=(1, 1), obstacle_share=0, person_share=0, include_pairs=frozenset({("red", shape)}))
    inside = 0
    for seed in range(25):
        frame = renderer.render(seed, options)
        (thing,) = frame.objects
        x1, y1, x2, y2 = thing.box
        if x1 > 0 and y1 > 0 and x2 < 320 and y2 < 240:
            assert thing.visible_fraction > 0.94
            inside += 1
    assert inside > 10


def test_visible_fraction_matches_the_object_rendered_alone(renderer: TabletopRenderer) -> None:
    hidden = 0
    for seed in range(60, 72):
        scene = scene_of(seed, objects=(7, 10), obstacle_share=1.0)
        frame = renderer.render_scene(scene)
        for thing in scene.objects:
            alone = renderer.render_scene(dataclasses.replace(scene, objects=(thing,), person=None, obstacle=None))
            (whole,) = alone.objects
            x1, y1, x2, y2 = whole.box
            if x1 == 0 or y1 == 0 or x2 == 320 or y2 == 240:
                continue
            for seen in frame.objects:
                if seen.distance_m == whole.distance_m:  # the same object among the others
                    assert seen.visible_fraction == pytest.approx(seen.visible_px / whole.visible_px, abs=0.07)
                    hidden += seen.visible_fraction < 0.9
    assert hidden >= 3


def test_person_and_obstacle_are_seen_when_they_are_there(renderer: TabletopRenderer) -> None:
    for seed in SEEDS:
        frame = renderer.render(seed, SceneOptions(person_share=1.0, obstacle_share=1.0))
        assert frame.obstacle is not None and frame.person is not None
        for box, least in ((frame.person, 0.01), (frame.obstacle, 0.02)):
            assert (box[2] - box[0]) * (box[3] - box[1]) > least * 320 * 240
        nobody = renderer.render(seed, SceneOptions(person_share=0.0, obstacle_share=0.0))
        assert nobody.person is None and nobody.obstacle is None


def test_shadows_change_the_image_but_not_the_truth(renderer: TabletopRenderer) -> None:
    scene = scene_of(5, objects=(5, 5), ambient_share=0.0)
    with_shadows = renderer.render_scene(scene)
    renderer.shadows = False
    try:
        without = renderer.render_scene(scene)
    finally:
        renderer.shadows = True
    darker = (without.image.astype(int) - with_shadows.image).mean(axis=2) > 20
    assert 0.002 < darker.mean() < 0.3
    assert with_shadows.objects == without.objects


def test_resolution_aspect_and_field_of_view() -> None:
    with TabletopRenderer(400, 200, samples=0) as wide:
        frame = wide.render(1, SceneOptions(objects=(4, 6), fovy_deg=(70.0, 70.0)))
        assert frame.image.shape == (200, 400, 3) and frame.objects
        assert wide.view().intrinsics.fovy_deg == pytest.approx(70.0)


def test_cubes_have_a_decent_size_at_vga() -> None:
    sizes = []
    with TabletopRenderer(640, 480, shadows=False, samples=0) as vga:
        for seed in range(20):
            options = SceneOptions(objects=(1, 1), obstacle_share=0, include_pairs=frozenset({("red", "cube")}))
            for thing in vga.render(seed, options).objects:
                sizes.append(max(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]))
    assert np.percentile(sizes, 10) >= 45 and np.percentile(sizes, 90) <= 105 and 50 <= np.median(sizes) <= 85


def test_misuse_is_refused() -> None:
    with pytest.raises(SimulationError, match=r"width .* 8"):
        TabletopRenderer(8, 480)
    closed = TabletopRenderer(64, 48)
    closed.close()
    closed.close()
    with pytest.raises(SimulationError, match="close"):
        closed.render(0)
