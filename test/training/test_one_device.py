"""Every tensor of a training step lies on the device that was asked for: tried on `meta`, where there is no GPU.

A tensor made on the CPU by oversight works there and fails on a GPU. The meta device computes shapes only, and a watch
over all operations refuses those that mix devices, as CUDA does. What this cannot show: the types that CUDA's autocast
chooses, and memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.fx.experimental import _config as shapes
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from exaone_ros.training.data import BatchMaker
from exaone_ros.training.forward import PackedModel
from exaone_ros.training.mtp import MtpLayer, draft_hidden
from exaone_ros.training.trainer import Trainer, TrainOptions

META = torch.device("meta")
MAY_MIX = {torch.ops.aten.copy_.default}


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of several devices; a number on the CPU may go with any, as on CUDA."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        devices = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim() > 0}
        if len(devices) > 1 and func not in MAY_MIX:
            raise AssertionError(f"{func} mixes {sorted(devices)}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def trainer(tiny_run: TrainOptions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    monkeypatch.setattr(Trainer, "_precision", lambda self: nullcontext())  # there is no autocast for it
    trainer = Trainer(replace(tiny_run, device="meta"))
    # How many entries a mask chooses cannot be known there: all of them.
    with shapes.patch(meta_nonzero_assume_all_nonzero=True):
        yield trainer


def test_the_watch_would_notice(trainer: Trainer) -> None:
    batch = BatchMaker(trainer.options.data).make(0).to(META)
    trainer.model.vision_frequency = torch.ones(trainer.model.vision_frequency.shape)
    with OneDevice(), pytest.raises(AssertionError, match="mixes"):
        trainer.loss(batch)


def test_a_step_of_the_trunk_stays_on_its_device(trainer: Trainer) -> None:
    maker = BatchMaker(trainer.options.data)
    for number in range(2):  # two sizes
        batch = maker.make(number).to(META)
        with OneDevice():
            loss, parts = trainer.loss(batch)
            assert loss.device == META
            assert {part.device for part in parts.values()} == {META}
            loss.backward()
    gradients = {p.grad.device for p in trainer.model.parameters() if p.grad is not None}
    assert gradients == {META}
    for optimiser in trainer.optimisers:
        with OneDevice():
            optimiser.step()
        for state in optimiser.state.values():
            kept = {value.device for name, value in state.items() if torch.is_tensor(value) and name != "step"}
            assert kept == {META}


def test_drafts_stay_on_their_device(trainer: Trainer) -> None:
    layer = MtpLayer(trainer.model.model.config.text_config).to(META)
    model = PackedModel(trainer.model.model, trainer.encoder.head, trainer.encoder.tail).to(META)
    batch = BatchMaker(trainer.options.data).make(0).to(META)
    with OneDevice():
        packed = model.pack(batch.images, batch.tokens, batch.offsets, batch.segments)
        drafted = draft_hidden(model, layer, packed, model.trunk(packed))
        assert {result.device for result in drafted} == {META}
        torch.stack([result.sum() for result in drafted]).sum().backward()
    assert layer.fc.weight.grad is not None
    assert layer.fc.weight.grad.device == META
