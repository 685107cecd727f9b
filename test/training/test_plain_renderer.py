"""A renderer for judging only: the simulator's boxes without the simulator's drawing."""

from __future__ import annotations

import numpy as np
import pytest

from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.score import iou
from exaone_ros.sim.vocabulary import SHAPES
from exaone_ros.training.evaluate import examinations, plain_frames
from exaone_ros.training.plain_renderer import PlainRenderer
from exaone_ros.training.splits import HELD_OUT_PAIRS, frame_seed


def test_frames_are_labelled_and_the_same_each_time() -> None:
    shapes = set()
    for first, again in zip(plain_frames("test", 6, 320, 240), plain_frames("test", 6, 320, 240), strict=True):
        assert np.array_equal(first.image, again.image)
        assert first.image.shape == (240, 320, 3) and first.image.dtype == np.uint8
        assert first.objects == again.objects
        assert first.person is None
        assert [o.box for o in first.objects] == sorted(o.box for o in first.objects)
        for index, thing in enumerate(first.objects):
            assert (first.instance == index).sum() == thing.visible_px
            assert 0 < thing.visible_fraction <= 1
            assert (thing.colour, thing.shape) not in HELD_OUT_PAIRS
            shapes.add(thing.shape)
    assert shapes == set(SHAPES)
    assert "plain areas" in examinations(3)


def test_boxes_are_those_of_the_simulator() -> None:
    pytest.importorskip("mujoco")
    from exaone_ros.sim.tabletop import TabletopRenderer

    overlaps = []
    with TabletopRenderer(320, 240) as simulator:
        for number in range(3):
            options = SceneOptions(person_share=0.0, objects=(4, 8))
            scene = sample_scene(np.random.default_rng(frame_seed("test", number)), options, 4 / 3)
            theirs = simulator.render_scene(scene)
            ours = PlainRenderer(320, 240).render_scene(scene)
            assert (ours.obstacle is None) == (theirs.obstacle is None)
            if ours.obstacle is not None and theirs.obstacle is not None:
                overlaps.append(iou(ours.obstacle, theirs.obstacle))
            for thing in theirs.objects:
                if thing.visible_fraction > 0.5:
                    same = [o for o in ours.objects if (o.shape, o.colour) == (thing.shape, thing.colour)]
                    overlaps.append(max(iou(o.box, thing.box) for o in same))
    assert len(overlaps) > 10
    assert np.mean(overlaps) > 0.9
    assert min(overlaps) > 0.6
