"""The MTP layer learns on a frozen trunk, sees what the engine will show it, and ships where nothing trips over it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import Exaone4_5_ForConditionalGeneration

from exaone_ros.engine.backend import DraftRow, Row
from exaone_ros.engine.backends import open_backend
from exaone_ros.errors import CheckpointError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.training.acceptance import markdown, measure, read_worth
from exaone_ros.training.checkpoints import CHECKPOINT, MTP_CHECKPOINT
from exaone_ros.training.cli import main
from exaone_ros.training.data import BatchStream
from exaone_ros.training.export import count_parameters, export
from exaone_ros.training.forward import PackedModel, rms_norm
from exaone_ros.training.model import build_config, build_model
from exaone_ros.training.mtp import MtpLayer, draft_hidden
from exaone_ros.training.mtp_trainer import MtpOptions, MtpTrainer
from exaone_ros.training.packing import Encoder, make_batch
from exaone_ros.training.questions import Questioner
from exaone_ros.training.trainer import Trainer, TrainOptions
from exaone_ros.training.truth import Truth

from .tiny import TINY

if TYPE_CHECKING:
    from exaone_ros.sim.frame import LabelledFrame

LAYER_KEYS = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "self_attn.q_norm",
    "self_attn.k_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "post_attention_layernorm",
    "post_feedforward_layernorm",
}  # fmt: skip
KEYS = {f"mtp.{name}.weight" for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "fc", "norm")} | {
    f"mtp.layers.0.{name}.weight" for name in LAYER_KEYS
}


@pytest.fixture
def trained(tiny_run: TrainOptions) -> MtpOptions:
    """A trunk of one step, and the options to train an MTP layer on it."""
    Trainer(replace(tiny_run, steps=1)).run(lambda line: None)
    return MtpOptions(tiny_run.directory, steps=12, data=tiny_run.data, warm_up=2, workers=0, threads=1)


def test_twelve_steps_lower_the_loss_and_leave_the_trunk_alone(trained: MtpOptions) -> None:
    trainer = MtpTrainer(trained)
    with torch.no_grad():  # one step teaches a trunk no opinions: make those that it has strong
        trainer.model.model.lm_head.weight.mul_(20)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    stream = BatchStream(trained.data, workers=0)
    losses = [trainer.train_on(stream.next(1.0))["loss"] for _ in range(12)]
    assert np.mean(losses[-3:]) < losses[0] - 0.2
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_export_adds_the_released_keys_and_transformers_passes_them_by(trained: MtpOptions, tmp_path: Path) -> None:
    plain, full = tmp_path / "plain", tmp_path / "full"
    export(trained.directory / CHECKPOINT, plain)
    trainer = MtpTrainer(replace(trained, steps=2))
    trainer.run(lambda line: None)
    parameters = export(trained.directory / CHECKPOINT, full)
    for folder in (plain, full):
        modes = {name: (folder / name).stat().st_mode for name in ("config.json", "model.safetensors")}
        assert len(set(modes.values())) == 1, "whoever may read the one may read the other"
    assert count_parameters(full) == parameters
    with safe_open(full / "model.safetensors", framework="pt") as tensors:
        names = set(tensors.keys())
        assert {name for name in names if name.startswith("mtp.")} == KEYS
        for name, value in trainer.mtp.state_dict().items():
            torch.testing.assert_close(tensors.get_tensor(f"mtp.{name}").float(), value, rtol=2e-3, atol=1e-4)
    ours = Exaone4_5_ForConditionalGeneration.from_pretrained(full, dtype=torch.float32).state_dict()
    theirs = Exaone4_5_ForConditionalGeneration.from_pretrained(plain, dtype=torch.float32).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    Checkpoint.open(full)


def test_export_refuses_an_mtp_layer_of_another_trunk(trained: MtpOptions, tmp_path: Path) -> None:
    MtpTrainer(replace(trained, steps=1)).run(lambda line: None)
    path = trained.directory / MTP_CHECKPOINT
    torch.save(torch.load(path, weights_only=True) | {"trunk": "another"}, path)
    with pytest.raises(CheckpointError, match="trained on other weights"):
        export(trained.directory / CHECKPOINT, tmp_path / "model")


def test_the_command_refuses_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    assert main(["mtp", "--run", str(tmp_path), "--steps", "1"]) == 1


def test_a_packed_question_is_drafted_as_if_it_were_alone(flat_frames: list[LabelledFrame]) -> None:
    encoder = Encoder()
    rng = np.random.default_rng(3)
    config = build_config(TINY, encoder.vocabulary_size)
    model = PackedModel(build_model(config, 0), encoder.head, encoder.tail)
    mtp = MtpLayer(config.text_config)
    mtp.initialise(model.model.model.language_model, 1)
    asker = Questioner(Truth.of(flat_frames[0]), rng)
    questions = [question for kind in ("count", "list", "count") if (question := asker.ask(kind)) is not None]
    together = make_batch(encoder, [flat_frames[0]], [questions], 320).to("cpu")
    for number, question in enumerate(questions):
        alone = make_batch(encoder, [flat_frames[0]], [[question]], 320).to("cpu")
        results = []
        for batch, segment in ((together, number + 1), (alone, 1)):
            with torch.no_grad():
                packed = model.pack(batch.images, batch.tokens, batch.offsets, batch.segments)
                drafted = draft_hidden(model, mtp, packed, model.trunk(packed), depth=3)
            start = packed.head.shape[1] + packed.before
            results.append([result[0, start:][batch.segments[0] == segment] for result in drafted])
        for depth, (packed_result, alone_result) in enumerate(zip(*results, strict=True)):
            # The prefix's own last entry holds the first question's first token: later questions do not see it.
            first, tolerance = (depth, 1e-4) if number == 0 else (depth + 1, 0.1)
            torch.testing.assert_close(packed_result[first:-1], alone_result[first:-1], rtol=0, atol=tolerance)


def test_later_drafts_stand_on_earlier_ones(flat_frames: list[LabelledFrame]) -> None:
    """Two results at once equal one entry after the other, computed the way an engine does."""
    encoder = Encoder()
    config = build_config(TINY, encoder.vocabulary_size)
    model = PackedModel(build_model(config, 0), encoder.head, encoder.tail)
    mtp = MtpLayer(config.text_config)
    mtp.initialise(model.model.model.language_model, 1)
    question = Questioner(Truth.of(flat_frames[0]), np.random.default_rng(0)).ask("list")
    assert question is not None
    batch = make_batch(encoder, [flat_frames[0]], [[question]], 200).to("cpu")
    with torch.no_grad():
        packed = model.pack(batch.images, batch.tokens, batch.offsets, batch.segments)
        trunk = model.trunk(packed)
        drafted = draft_hidden(model, mtp, packed, trunk, depth=3)
        hidden = torch.cat([trunk[0], trunk[1]], 1)
        embedded = torch.cat([packed.head, packed.stream], 1)
        place = packed.head.shape[1] + packed.before + 7
        inputs = mtp.join(embedded[:, 1 : place + 2], hidden[:, : place + 1])
        for depth in range(3):
            result = _attend(model, mtp, inputs)
            torch.testing.assert_close(drafted[depth][:, place + depth], result, rtol=1e-4, atol=1e-4)
            following = mtp.join(embedded[:, place + depth + 2][:, None], result[:, None])
            inputs = torch.cat([inputs, following], 1)


def test_an_exported_layer_drafts_in_the_engine_what_it_drafted_in_training(
    trained: MtpOptions, tmp_path: Path
) -> None:
    trainer = MtpTrainer(replace(trained, steps=2))
    trainer.run(lambda line: None)
    export(trained.directory / CHECKPOINT, tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (252, 336, 3), dtype=np.uint8)
    encoder = Encoder()
    ids = np.array([*encoder.head, *[67] * 108, *encoder.tail, *range(80, 110)])
    text = torch.tensor([list(range(80, 110))])
    with torch.no_grad():
        packed = trainer.model.pack(torch.tensor(image)[None], text, torch.arange(30)[None], torch.ones_like(text))
        expected = draft_hidden(trainer.model, trainer.mtp, packed, trainer.model.trunk(packed))
    backend = open_backend("onnxruntime", tmp_path / "model", slots=1, context=256, threads=1, mtp=True)
    backend.run([Row(0, 0, ids[:-3], (backend.encode(image),))])
    for depth in range(2):
        (found,) = backend.draft([DraftRow(0, len(ids) - 3, ids[-3 : -2 + depth])])
        wanted = trainer.model.model.lm_head(expected[depth][0, len(ids) - 4 + depth]).detach().numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0.02 * float(np.abs(wanted).max()))  # float16 weights
    backend.close()


def _attend(model: PackedModel, mtp: MtpLayer, inputs: torch.Tensor) -> torch.Tensor:
    """The layer by plain attention: the last of the entries, [1, width]."""
    layer, count = mtp.layers[0], inputs.shape[1]
    query, key, value = model.project(layer, inputs, model.waves(torch.arange(count)[None], inputs.dtype))
    share = query.shape[2] // key.shape[2]
    key, value = key.repeat_interleave(share, 2), value.repeat_interleave(share, 2)
    weights = torch.softmax(torch.einsum("bhd,bnhd->bhn", query[:, -1], key) * query.shape[-1] ** -0.5, -1)
    attended = torch.einsum("bhn,bnhd->bhd", weights, value)[:, None]
    return rms_norm(model.finish(layer, inputs[:, -1:], attended), mtp.norm.weight, mtp.norm.variance_epsilon)[:, 0]


def test_acceptance_is_measured_through_the_engine(trained: MtpOptions, tmp_path: Path) -> None:
    MtpTrainer(replace(trained, steps=1)).run(lambda line: None)
    export(trained.directory / CHECKPOINT, tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (252, 336, 3), dtype=np.uint8)
    worth = measure(tmp_path / "model", [image], ["mtp 2", "previous 32"], threads=1)
    assert list(worth) == ["none", "mtp 2", "previous 32"]
    assert all(w.answers == w.same == 9 for w in worth.values())
    assert worth["none"].drafted == 0 < worth["mtp 2"].drafted
    assert worth["previous 32"].steps < worth["none"].steps
    assert len(markdown(worth).splitlines()) == 5
    assert read_worth(tmp_path / "none.json") is None
