"""Changes of training frames keep labels exact, and a shard is the same whenever it is rendered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exaone_ros.errors import ExaoneError
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.training import prerender
from exaone_ros.training.changed_scenes import Strange, StrangeRenderer, training_change
from exaone_ros.training.pool import read_shard
from exaone_ros.training.prerender import RENDER_SIZES, SIZE_OF_SHARD, render_shard

pytest.importorskip("mujoco")


@pytest.fixture(autouse=True)
def _drawing() -> None:
    try:
        TabletopRenderer(64, 48, samples=0).close()
    except ExaoneError as error:
        pytest.skip(f"no rendering here: {error}")


def test_each_change_of_training_shows_other_pixels_and_labels_what_it_shows() -> None:
    with StrangeRenderer(Strange(width=160, height=120)) as renderer:
        plain = renderer.render_strange(4)
    others = 0
    for seed in range(12):
        change = training_change(np.random.default_rng(seed))
        changed = Strange(change.scene, change.model, change.poses, 160, 120)
        with StrangeRenderer(changed) as renderer:
            frame, again = renderer.render_strange(4), renderer.render_strange(4)
        assert np.array_equal(frame.image, again.image)
        others += not np.array_equal(frame.image, plain.image)
        for index, thing in enumerate(frame.objects):
            rows, columns = np.nonzero(frame.instance == index)
            assert thing.box == pytest.approx((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), abs=1.0)
    assert others == 12


def test_shards_of_every_size_are_rendered_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(SIZE_OF_SHARD) == set(RENDER_SIZES)
    monkeypatch.setattr(prerender, "FRAMES_PER_SHARD", 2)
    for shard, size in enumerate(SIZE_OF_SHARD[4:]):
        one, other = tmp_path / f"one-{shard}.npz", tmp_path / f"other-{shard}.npz"
        render_shard(one, shard, size)
        render_shard(other, shard, size)
        for a, b in zip(read_shard(one), read_shard(other), strict=True):
            assert a.image.shape[:2] == size and np.array_equal(a.image, b.image) and a.objects == b.objects
