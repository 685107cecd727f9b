"""A training run lowers its loss, goes on exactly where it stopped, and ends in a directory that transformers loads."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Exaone4_5_ForConditionalGeneration

from exaone_ros.errors import CheckpointError, DatasetError
from exaone_ros.training.checkpoints import MTP_CHECKPOINT
from exaone_ros.training.cli import main
from exaone_ros.training.data import BatchMaker, BatchStream, DataOptions
from exaone_ros.training.export import count_parameters, export
from exaone_ros.training.flat_renderer import FlatOptions, FlatRenderer
from exaone_ros.training.losses import token_loss
from exaone_ros.training.packing import ALL_KINDS
from exaone_ros.training.pool import FramePool, read_shard, write_shard
from exaone_ros.training.questions import CHOICES, COUNTS
from exaone_ros.training.splits import HELD_OUT_PAIRS, frame_seed
from exaone_ros.training.trainer import CHECKPOINT, Trainer, TrainOptions, learning_rate


def test_twenty_steps_lower_the_loss(tiny_run: TrainOptions) -> None:
    trainer = Trainer(tiny_run)
    stream = BatchStream(tiny_run.data, workers=0)
    parts = [trainer.train_on(stream.next(trainer.progress)) for _ in range(20)]
    assert np.mean([p["word"] for p in parts[-4:]]) < parts[0]["word"] - 0.4


def test_a_resumed_run_is_bit_equal_to_one_that_never_stopped(tiny_run: TrainOptions, tmp_path: Path) -> None:
    whole = Trainer(replace(tiny_run, steps=6))
    whole.run(lambda line: None)

    split = replace(tiny_run, directory=tmp_path / "split", steps=6)
    first = Trainer(split)
    stream = BatchStream(split.data, workers=0)
    for _ in range(3):
        first.train_on(stream.next(first.progress))
    first.save()
    second = Trainer(split)
    assert second.step == 3
    second.run(lambda line: None)

    assert second.step == whole.step == 6
    for (name, a), (_, b) in zip(whole.model.state_dict().items(), second.model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_export_loads_in_transformers_with_the_trained_weights(tiny_run: TrainOptions, tmp_path: Path) -> None:
    trainer = Trainer(replace(tiny_run, steps=2))
    lines: list[str] = []
    trainer.run(lines.append)
    assert lines
    directory = tmp_path / "model"
    parameters = export(tiny_run.directory / CHECKPOINT, directory)
    assert count_parameters(directory) == parameters
    loaded = Exaone4_5_ForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    for (name, ours), (_, theirs) in zip(
        trainer.model.model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(theirs, ours, rtol=2e-3, atol=1e-6, msg=name)
    assert {path.name for path in directory.iterdir()} == {
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_export_refuses_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        export(tmp_path / CHECKPOINT, tmp_path / "model")
    torch.save({"weights": 1}, tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError, match="expected the checkpoint"):
        export(tmp_path / CHECKPOINT, tmp_path / "model")
    assert main(["export", "--run", str(tmp_path / "none"), "--model", str(tmp_path / "model")]) == 1


def test_what_cannot_be_gone_on_from_is_named(tiny_run: TrainOptions) -> None:
    trainer = Trainer(replace(tiny_run, steps=1))
    trainer.save()
    state = torch.load(trainer.path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is of a model of other sizes .*size mismatch"):
        Trainer(replace(tiny_run, sizes=replace(tiny_run.sizes, text_mlp=48)))
    torch.save({key: value for key, value in state.items() if key != "optimisers"}, trainer.path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is of .*optimisers.*--start"):
        Trainer(tiny_run)
    del state["model"]["auxiliary.mark.weight"]
    torch.save(state, trainer.path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is of .*auxiliary\.mark.*--start"):
        Trainer(tiny_run)
    trainer.path.write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read"):
        Trainer(tiny_run)


def test_a_worker_process_that_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        """Stands for a process, and for its queues, in which nothing ever comes."""

        def is_alive(self) -> bool:
            return False

        def get(self, timeout: float) -> None:
            raise queue.Empty

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: None

    context = SimpleNamespace(Queue=Ended, Process=lambda **_: Ended())
    monkeypatch.setattr("exaone_ros.training.data.multiprocessing.get_context", lambda _: context)
    stream = BatchStream(DataOptions(batch=2), workers=1)
    with pytest.raises(DatasetError, match="a process that makes batches has ended"):
        stream.next(1.0)
    stream.close()


def test_a_refused_export_leaves_the_model_as_it_was(tiny_run: TrainOptions, tmp_path: Path) -> None:
    trainer = Trainer(replace(tiny_run, steps=1))
    trainer.save()
    state = torch.load(trainer.path, weights_only=True)
    state["model"]["model.lm_head.weight"] = state["model"]["model.lm_head.weight"][:-1]
    torch.save(state, tmp_path / "older.pt")
    with pytest.raises(CheckpointError, match=r"older\.pt has other weights .*lm_head"):
        export(tmp_path / "older.pt", tmp_path / "model")
    trainer.path.with_name(MTP_CHECKPOINT).write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"mtp\.pt cannot be read"):
        export(trainer.path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_run_starts_from_one_that_had_fewer_auxiliary_heads(tiny_run: TrainOptions, tmp_path: Path) -> None:
    earlier = Trainer(replace(tiny_run, steps=2))
    earlier.save()
    state = torch.load(earlier.path, weights_only=True)
    del state["model"]["auxiliary.mark.weight"], state["model"]["auxiliary.mark.bias"]
    torch.save(state, tmp_path / "earlier.pt")
    later = Trainer(replace(tiny_run, directory=tmp_path / "later", start=tmp_path / "earlier.pt", seed=5))
    for name, value in state["model"].items():
        assert torch.equal(later.model.state_dict()[name], value), name

    del state["model"]["model.lm_head.weight"]
    torch.save(state, tmp_path / "headless.pt")
    with pytest.raises(CheckpointError, match="lm_head"):
        Trainer(replace(tiny_run, directory=tmp_path / "none", start=tmp_path / "headless.pt"))


def test_answers_that_are_judged_by_a_word_weigh_more(tiny_run: TrainOptions) -> None:
    trainer = Trainer(tiny_run)
    batch = BatchMaker(tiny_run.data).make(0).to("cpu")
    hidden, _, _ = trainer.model(batch.images, batch.tokens, batch.offsets, batch.segments)
    hidden = hidden.detach().requires_grad_()
    once, thrice = (
        torch.autograd.grad(token_loss(trainer.model, hidden, batch, judged=weight)[0], hidden)[0].norm(dim=-1)
        for weight in (1.0, 3.0)
    )
    told = batch.targets >= 0
    judged = torch.isin(batch.kinds, torch.tensor([ALL_KINDS.index(kind) for kind in COUNTS | CHOICES]))
    assert (told & judged).any() and (told & ~judged).any()
    assert torch.allclose(thrice[told & ~judged], once[told & ~judged], rtol=1e-3)
    assert torch.allclose(thrice[told & judged], 3 * once[told & judged], rtol=0.05)  # but for the Z loss


def test_the_log_tells_the_loss_of_a_word_with_and_without_weights(tiny_run: TrainOptions) -> None:
    trainer = Trainer(tiny_run)
    batch = BatchMaker(tiny_run.data).make(0).to("cpu")
    hidden, _, _ = trainer.model(batch.images, batch.tokens, batch.offsets, batch.segments)
    once, thrice = (token_loss(trainer.model, hidden, batch, judged=weight)[1] for weight in (1.0, 3.0))
    assert torch.equal(once["word"], once["word_plain"])
    assert torch.equal(thrice["word_plain"], once["word_plain"]) and thrice["word"] > 1.05 * once["word"]


def test_schedule_warms_up_holds_and_cools_down() -> None:
    assert learning_rate(0.0, 0, 10, 0.4) == pytest.approx(0.1)
    assert learning_rate(0.5, 100, 10, 0.4) == 1.0
    assert learning_rate(0.8, 100, 10, 0.4) == pytest.approx(0.5)
    assert learning_rate(1.0, 100, 10, 0.4) == pytest.approx(0.02)


def test_batches_are_the_same_whenever_they_are_made() -> None:
    options = DataOptions(batch=3, length=64, sizes=((84, 112), (56, 84)))
    maker, other = BatchMaker(options), BatchMaker(options)
    for number in (0, 1, 2):
        maker.make(number)
    again, fresh = maker.make(1, 0.3), other.make(1, 0.3)
    assert np.array_equal(again.images, fresh.images)
    assert np.array_equal(again.tokens, fresh.tokens)
    assert not np.array_equal(fresh.images[0], fresh.images[1])


def test_a_worker_process_makes_the_same_batches_in_order() -> None:
    options = DataOptions(batch=2, length=48, sizes=((56, 84),))
    stream = BatchStream(options, start=2, workers=1, ahead=2)
    try:
        made = [stream.next(1.0) for _ in range(3)]
    finally:
        stream.close()
    maker = BatchMaker(options)
    for number, batch in enumerate(made, start=2):
        assert np.array_equal(batch.tokens, maker.make(number, 1.0).tokens)


def test_a_pool_gives_back_its_frames(tmp_path: Path) -> None:
    frames = [
        FlatRenderer(112, 84).render(frame_seed("train", i), FlatOptions(exclude_pairs=HELD_OUT_PAIRS))
        for i in range(4)
    ]
    write_shard(tmp_path / "shard-0000.npz", frames)
    for was, now in zip(frames, read_shard(tmp_path / "shard-0000.npz"), strict=True):
        assert np.array_equal(was.image, now.image)
        assert np.array_equal(was.instance, now.instance)
        assert (was.objects, was.person, was.obstacle) == (now.objects, now.person, now.obstacle)
    pool = FramePool(tmp_path)
    assert len(pool) == 4
    write_shard(tmp_path / "shard-0001.npz", frames[:2])
    pool.refresh()
    assert len(pool.frames[(84, 112)]) == 6
    batch = BatchMaker(DataOptions(batch=2, length=48, sizes=((84, 112),), pool=tmp_path, pool_share=1.0)).make(0)
    assert batch.images.shape == (2, 84, 112, 3)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    shard = tmp_path / "shard-0000.npz"
    write_shard(shard, [FlatRenderer(112, 84).render(frame_seed("train", 1))])
    whole = shard.read_bytes()
    turned = bytearray(whole)
    turned[len(whole) // 2] ^= 255
    for content in (b"", b"no archive", whole[: len(whole) // 2], bytes(turned)):
        shard.write_bytes(content)
        with pytest.raises(DatasetError, match=r"shard-0000\.npz cannot be read .* have `prerender` render it anew"):
            FramePool(tmp_path)
    np.savez(shard, images=np.zeros((1, 2, 2, 3)))
    with pytest.raises(DatasetError, match=r"shard-0000\.npz cannot be read .*instances"):
        FramePool(tmp_path)
