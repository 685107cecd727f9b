"""Looks at validation frames: the same each time, without a trace in the run, and patience that ends in a cool-down."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from exaone_ros.training.checkpoints import BEST_CHECKPOINT, read_run
from exaone_ros.training.export import export
from exaone_ros.training.flat_renderer import FlatOptions, FlatRenderer
from exaone_ros.training.pool import VALIDATION_POOL, write_shard
from exaone_ros.training.splits import HELD_OUT_PAIRS, LOOKED_AT_FROM, frame_seed
from exaone_ros.training.trainer import CHECKPOINT, Trainer, TrainOptions
from exaone_ros.training.validation import LEAST_GAIN, Progress, Validation


class Told:
    """Stands for a validation set: says the losses that it was given, one after the other."""

    losses: ClassVar[list[float]] = []

    def __init__(self, data: object, batches: int = 1) -> None:
        pass

    def measure(self, *arguments: object) -> dict[str, float]:
        return {"loss": Told.losses.pop(0), "count": math.nan, "choice": 0.5}


class NoBatches:
    """Stands for the stream of batches where no step is really taken."""

    def __init__(self, *arguments: object, **more: object) -> None:
        pass

    def next(self, progress: float) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    """Steps that cost nothing: each moves one weight by one; what a look says is made up."""

    def step(trainer: Trainer, batch: object) -> dict[str, float]:
        with torch.no_grad():
            trainer.model.model.lm_head.weight[0, 0] += 1
        trainer.step += 1
        return {"word": 1.0}

    monkeypatch.setattr("exaone_ros.training.trainer.Validation", Told)
    monkeypatch.setattr("exaone_ros.training.trainer.BatchStream", NoBatches)
    monkeypatch.setattr(Trainer, "train_on", step)
    return Told


def test_a_set_is_the_same_for_every_seed_and_measures_the_same_twice(tiny_run: TrainOptions) -> None:
    first, second = Validation(tiny_run.data, 2), Validation(replace(tiny_run.data, seed=8), 2)
    for a, b in zip(first.batches, second.batches, strict=True):
        assert np.array_equal(a.images, b.images)
        assert np.array_equal(a.tokens, b.tokens)
    trainer = Trainer(tiny_run)
    figures = first.measure(trainer.model, trainer.device)
    assert figures == first.measure(trainer.model, trainer.device)
    assert figures["loss"] > 0
    assert all(0 <= figures[name] <= 1 for name in ("count", "choice"))


def test_half_of_the_frames_come_from_the_pools_validation_folder(tiny_run: TrainOptions, tmp_path: Path) -> None:
    size = tiny_run.data.sizes[0]
    frames = [
        FlatRenderer(size[1], size[0]).render(frame_seed("validation", LOOKED_AT_FROM + 900 + i), FlatOptions())
        for i in range(3)
    ]
    write_shard(tmp_path / VALIDATION_POOL / "shard-0000.npz", frames)
    batch = Validation(replace(tiny_run.data, pool=tmp_path), 1).batches[0]
    assert np.array_equal(batch.images[0], frames[0].image)
    assert np.array_equal(batch.images[1], frames[1].image)
    flat = FlatRenderer(size[1], size[0]).render(
        frame_seed("validation", LOOKED_AT_FROM), FlatOptions(exclude_pairs=HELD_OUT_PAIRS)
    )
    assert np.array_equal(batch.images[2], flat.image)


def test_looks_leave_no_trace_in_the_run(tiny_run: TrainOptions, tmp_path: Path) -> None:
    lines: list[str] = []
    plain = Trainer(replace(tiny_run, steps=4))
    plain.run(lambda line: None)
    looking = Trainer(replace(tiny_run, steps=4, directory=tmp_path / "looking", look_steps=2))
    looking.run(lines.append)
    assert sum(line.startswith("look ") for line in lines) == looking.looked.looks == 2
    for (name, a), (_, b) in zip(plain.model.state_dict().items(), looking.model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_progress_counts_looks_that_brought_next_to_nothing() -> None:
    progress = Progress()
    for step, loss in enumerate((2.0, 1.0, 1.0 - LEAST_GAIN / 2, 1.2, 1.0 - 2 * LEAST_GAIN)):
        progress = progress.after(loss, step)
        if step == 2:
            assert (progress.without, progress.best, progress.best_step) == (1, 1.0 - LEAST_GAIN / 2, 2)
        if step == 3:
            assert progress.without == 2
    assert (progress.looks, progress.without, progress.best_step) == (5, 0, 4)
    assert Progress(**progress.as_dict()) == progress


def test_patience_at_its_end_skips_to_the_cool_down(tiny_run: TrainOptions, told: type[Told]) -> None:
    told.losses = [3.0, 2.0, 2.5, 2.6, *(2.1 - 0.01 * i for i in range(20))]
    lines: list[str] = []
    trainer = Trainer(replace(tiny_run, steps=40, cool_down=0.2, look_steps=2, patience=2))
    trainer.run(lines.append)
    # the fourth look, after step 8, is the second in a row without a gain; then a fifth of 40 steps is left
    assert trainer.step == 16
    assert trainer.skipped == pytest.approx(0.6)
    assert trainer.progress == 1.0
    assert sum("cooling down" in line for line in lines) == 1
    assert trainer.looked.best == pytest.approx(2.0)
    assert trainer.looked.best_step == 4
    assert read_run(tiny_run.directory / BEST_CHECKPOINT)["step"] == 4


def test_without_patience_and_while_it_cools_down_nothing_is_skipped(tiny_run: TrainOptions, told: type[Told]) -> None:
    told.losses = [1.0] * 20
    for patience, cool_down in ((0, 0.2), (1, 1.0)):
        directory = tiny_run.directory / str(patience)
        trainer = Trainer(
            replace(tiny_run, directory=directory, steps=8, cool_down=cool_down, look_steps=2, patience=patience)
        )
        trainer.run(lambda line: None)
        assert (trainer.step, trainer.skipped) == (8, 0.0)


def test_a_resumed_run_remembers_its_looks(tiny_run: TrainOptions, told: type[Told]) -> None:
    told.losses = [3.0, 3.0, 3.0, *[2.0] * 20]
    options = replace(tiny_run, steps=40, cool_down=0.2, look_steps=2, patience=2)

    def stop(share: float) -> None:
        if share >= 0.6:
            raise KeyboardInterrupt

    first = Trainer(options)
    with pytest.raises(KeyboardInterrupt):
        first.run(lambda line: None, stop)
    assert first.skipped > 0
    second = Trainer(options)
    assert (second.step, second.skipped, second.looked) == (first.step, first.skipped, first.looked)
    second.run(lambda line: None)
    assert second.step < 40


def test_a_last_look_that_was_cut_off_is_done_by_the_next_call(tiny_run: TrainOptions, told: type[Told]) -> None:
    """Else the weights behind the whole cool-down would never be held against those of earlier looks."""
    told.losses = [2.0, 1.0, 0.5]
    options = replace(tiny_run, steps=4, look_steps=3)
    first = Trainer(options)
    looks = first.look

    def cut_off(*arguments: Any) -> None:
        if first.step == 4:
            raise KeyboardInterrupt
        looks(*arguments)

    first.look = cut_off  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.run(lambda line: None)
    assert read_run(tiny_run.directory / BEST_CHECKPOINT)["step"] == 3
    for _ in range(2):
        again = Trainer(options)
        again.run(lambda line: None)
        assert (again.step, again.looked.looks, again.looked.best_step) == (4, 2, 4)
    assert read_run(tiny_run.directory / BEST_CHECKPOINT)["step"] == 4


def test_the_best_weights_can_be_exported(tiny_run: TrainOptions, told: type[Told], tmp_path: Path) -> None:
    told.losses = [1.0, 2.0]
    trainer = Trainer(replace(tiny_run, steps=4, look_steps=2))
    trainer.run(lambda line: None)
    best, last = (read_run(tiny_run.directory / name) for name in (BEST_CHECKPOINT, CHECKPOINT))
    assert (best["step"], last["step"]) == (2, 4)
    assert not torch.equal(best["model"]["model.lm_head.weight"].float(), last["model"]["model.lm_head.weight"].float())
    assert export(tiny_run.directory / BEST_CHECKPOINT, tmp_path / "model") > 0
