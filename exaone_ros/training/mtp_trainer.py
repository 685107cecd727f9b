"""Training of the MTP layer on a trained trunk: minutes, not hours, as nothing but one layer learns."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from exaone_ros.training.checkpoints import (
    CHECKPOINT,
    MTP_CHECKPOINT,
    fingerprint,
    load_weights,
    read_run,
    trunk_weights,
)
from exaone_ros.training.data import BatchStream, DataOptions
from exaone_ros.training.forward import PackedModel
from exaone_ros.training.model import Sizes, build_config, build_model
from exaone_ros.training.mtp import MtpLayer, draft_loss
from exaone_ros.training.packing import Batch, Encoder
from exaone_ros.training.trainer import learning_rate


@dataclass(frozen=True)
class MtpOptions:
    """Training of the MTP layer.

    Attributes:
        directory: of a training run: its checkpoint is the trunk, the layer is written beside it.
        minutes: of training; the schedule is laid over them.
        steps: if given, the schedule is laid over this many steps instead.
        data: how batches are made.
        seed: of the starting weights.
        matrix_rate, other_rate: peak learning rates of Muon (matrices) and AdamW (norms).
        warm_up: steps.
        cool_down: last part of the run over which the rates fall.
        device: "cpu" or "cuda".
        threads: of the CPU; 0 = as torch chooses.
        workers: processes that make batches; 0 = this one.
        checkpoint: file of the run that holds the trunk.
    """

    directory: Path
    minutes: float = 8.0
    steps: int | None = None
    data: DataOptions = field(default_factory=lambda: DataOptions(easy_frames=0, easy_until=0.0))
    seed: int = 0
    matrix_rate: float = 6e-3
    other_rate: float = 4e-3
    warm_up: int = 10
    cool_down: float = 0.6
    device: str = "cpu"
    threads: int = 0
    workers: int = 1
    checkpoint: str = CHECKPOINT


class MtpTrainer:
    """One run; it starts from nothing each time, as minutes are enough for one layer.

    Raises:
        CheckpointError: the directory holds no checkpoint of a training run, or one of another vocabulary.
    """

    def __init__(self, options: MtpOptions) -> None:
        if options.threads:
            torch.set_num_threads(options.threads)
        self.options = options
        self.device = torch.device(options.device)
        checkpoint = options.directory / options.checkpoint
        state = read_run(checkpoint)
        encoder = Encoder()
        sizes = state["sizes"] | {"full_attention": tuple(state["sizes"]["full_attention"])}
        model = build_model(build_config(Sizes(**sizes), encoder.vocabulary_size), options.seed)
        weights = trunk_weights(state)
        load_weights(model, weights, checkpoint)
        self.trunk_fingerprint = fingerprint(weights)
        self.model = PackedModel(model, encoder.head, encoder.tail).to(self.device).requires_grad_(False)
        self.mtp = MtpLayer(model.config.text_config)
        self.mtp.initialise(model.model.language_model, options.seed)
        self.mtp.to(self.device)
        matrices = [p for p in self.mtp.parameters() if p.ndim == 2]
        others = [p for p in self.mtp.parameters() if p.ndim != 2]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=options.matrix_rate, adjust_lr_fn="match_rms_adamw", ns_steps=4),
            torch.optim.AdamW(others, lr=options.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.step, self.elapsed_s = 0, 0.0
        self.averages: dict[str, float] = {}

    @property
    def progress(self) -> float:
        """How much of the run is done, 0..1."""
        if self.options.steps is not None:
            return min(1.0, self.step / self.options.steps)
        return min(1.0, self.elapsed_s / (60 * self.options.minutes))

    def train_on(self, batch: Batch) -> dict[str, float]:
        """One step; returns the loss and how often the first, second ... draft agrees with the trunk."""
        options = self.options
        rate = learning_rate(self.progress, self.step, options.warm_up, options.cool_down)
        for optimiser, peak in zip(self.optimisers, (options.matrix_rate, options.other_rate), strict=True):
            optimiser.param_groups[0]["lr"] = peak * rate
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, parts = draft_loss(self.model, self.mtp, batch.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.mtp.parameters(), 1.0))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient is {norm} in step {self.step}: lower the learning rate")
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return parts

    def run(self, report: Callable[[str], None], on_progress: Callable[[float], None] = lambda share: None) -> None:
        """Train to the end of the budget, and save; also where the run is interrupted."""
        options = self.options
        stream = BatchStream(options.data, workers=options.workers)
        last = time.monotonic()
        try:
            while self.progress < 1:
                parts = self.train_on(stream.next(1.0))
                now = time.monotonic()
                self.elapsed_s += now - last
                last = now
                for name, value in parts.items():
                    self.averages[name] = 0.9 * self.averages.get(name, value) + 0.1 * value
                on_progress(self.progress)
                if self.step in (1, 10) or self.step % 25 == 0:
                    figures = " ".join(f"{name} {value:.3f}" for name, value in self.averages.items())
                    report(f"mtp step {self.step} {self.elapsed_s / 60:.1f} min {figures}")
        finally:
            stream.close()
            if self.step:
                self.save()

    def save(self) -> None:
        """Write `mtp.pt` beside the trunk's checkpoint, with what tells which trunk it belongs to."""
        path = self.options.directory / MTP_CHECKPOINT
        state = {
            "mtp": self.mtp.state_dict(),
            "trunk": self.trunk_fingerprint,
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "averages": self.averages,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)


def describe(options: MtpOptions) -> str:
    """The options as one line of JSON, for the log."""
    return json.dumps(asdict(options) | {"directory": options.directory.name}, default=str)
