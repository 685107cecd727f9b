"""The training run: optimisers, schedule by the clock, checkpoints, resume.

CPU (bf16 autocast, no compilation: compiling takes minutes on two cores) and one CUDA GPU take the same code; the CUDA
path has not been run on a GPU (a test holds every tensor of a step to one device).

A run may look at validation frames on its way (`validation`). Its schedule is laid over a budget, at the end of which
the learning rate falls, and the loss with it; so patience can only mean: where N looks in a row bring nothing while the
rate is at its peak, the rest of that phase is skipped and the rate begins to fall at once. The run then ends when the
cool-down is through, as it always does.
"""

from __future__ import annotations

import ctypes
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exaone_ros.errors import CheckpointError
from exaone_ros.sim.vocabulary import COLOURS, SHAPES
from exaone_ros.training.checkpoints import BEST_CHECKPOINT, CHECKPOINT, read_exported, read_run
from exaone_ros.training.data import BatchStream, DataOptions
from exaone_ros.training.forward import AuxiliaryHeads, PackedModel
from exaone_ros.training.losses import auxiliary_loss, token_loss
from exaone_ros.training.model import Sizes, build_config, build_model
from exaone_ros.training.packing import MOST_CELLS, Batch, Encoder
from exaone_ros.training.validation import Progress, Validation, write_best

TRIM_STEPS = 40
"""Between two returns of freed memory to the system: batches of changing sizes left 50 MB a step in glibc's heap."""


@dataclass(frozen=True)
class TrainOptions:
    """A training run.

    Attributes:
        directory: of its checkpoint and log.
        start: checkpoint of another run, or a directory that `export` wrote, whose weights this one starts from
            (optimisers and clock start anew; a directory has no auxiliary heads: give them no weight).
        minutes: of training in all, over all resumes; the schedule is laid over it.
        steps: if given, the schedule is laid over this many steps instead, and the clock does not matter.
        data: how batches are made.
        sizes: of the model.
        seed: of the starting weights.
        matrix_rate, other_rate: peak learning rates of Muon (matrices) and AdamW (the rest).
        rate: share of both peaks; below 1 for a run that goes on from trained weights.
        matrix_decay: weight decay of the matrices.
        warm_up: steps.
        cool_down: last part of the run over which the rates fall to zero.
        auxiliary: weight of the auxiliary loss at the start; it fades towards the end.
        judged: weight of a word in the answer to a count or a decision, see `losses.token_loss`.
        device: "cpu" or "cuda".
        threads: of the CPU; 0 = as torch chooses.
        workers: processes that make batches; 0 = this one.
        save_minutes: between checkpoints.
        look_minutes: between looks at validation frames; 0 = never (unless `look_steps`).
        look_steps: if given, steps between looks, and the clock does not matter.
        patience: looks in a row without a gain, at the peak rate, after which the rate begins to fall; 0 = never.
    """

    directory: Path
    start: Path | None = None
    minutes: float = 80.0
    steps: int | None = None
    data: DataOptions = field(default_factory=DataOptions)
    sizes: Sizes = field(default_factory=Sizes)
    seed: int = 0
    matrix_rate: float = 3.5e-3
    other_rate: float = 2e-3
    rate: float = 1.0
    matrix_decay: float = 0.02
    warm_up: int = 40
    cool_down: float = 0.45
    auxiliary: float = 1.0
    judged: float = 3.0
    device: str = "cpu"
    threads: int = 0
    workers: int = 1
    save_minutes: float = 3.0
    look_minutes: float = 0.0
    look_steps: int | None = None
    patience: int = 0


def learning_rate(progress: float, step: int, warm_up: int, cool_down: float) -> float:
    """Share of the peak rate: a linear warm-up by steps, then constant, then linear to 2% over the cool-down."""
    warm = min(1.0, (step + 1) / max(1, warm_up))
    cool = 1.0 if progress < 1 - cool_down else max(0.02, (1 - progress) / cool_down)
    return warm * cool


class Trainer:
    """One training run; resumes by itself where its directory holds a checkpoint."""

    def __init__(self, options: TrainOptions) -> None:
        if options.threads:
            torch.set_num_threads(options.threads)
        self.options = options
        self.device = torch.device(options.device)
        self.encoder = Encoder()
        model = build_model(build_config(options.sizes, self.encoder.vocabulary_size), options.seed)
        auxiliary = AuxiliaryHeads(options.sizes.text_width, len(COLOURS), len(SHAPES), MOST_CELLS)
        self.model = PackedModel(model, self.encoder.head, self.encoder.tail, auxiliary).to(self.device)
        self.optimisers = self._optimisers()
        self.peaks = [[group["lr"] for group in optimiser.param_groups] for optimiser in self.optimisers]
        self.step, self.elapsed_s = 0, 0.0
        self.skipped = 0.0
        self.looked = Progress()
        self.look_due_s = 60 * options.look_minutes
        self.averages: dict[str, float] = {}
        options.directory.mkdir(parents=True, exist_ok=True)
        self.path = options.directory / CHECKPOINT
        if self.path.exists():
            self._load()
        elif options.start is not None:
            self._start(options.start)

    def _start(self, start: Path) -> None:
        """Take the weights of another run's checkpoint, or of a directory that `export` wrote."""
        try:
            if start.is_dir():
                self.model.model.load_state_dict(read_exported(start))
            else:
                left = self.model.load_state_dict(read_run(start)["model"], strict=False)
                lacking = [name for name in left.missing_keys if not name.startswith("auxiliary.")]
                if lacking or left.unexpected_keys:  # heads that are new since that run start anew
                    raise RuntimeError(f"missing {lacking[:3]}, unexpected {left.unexpected_keys[:3]}")
        except RuntimeError as error:  # torch's word for other names or shapes
            raise CheckpointError(f"{start} has other weights than a model of these sizes: {error}") from error

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        options = self.options
        matrices = [
            p for name, p in self.model.named_parameters()
            if p.ndim == 2 and "embed_tokens" not in name and "lm_head" not in name and "auxiliary" not in name
        ]  # fmt: skip
        taken = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in taken]
        muon = torch.optim.Muon(
            matrices,
            lr=options.matrix_rate,
            weight_decay=options.matrix_decay,
            adjust_lr_fn="match_rms_adamw",
            ns_steps=4,
        )
        fused = self.device.type in ("cpu", "cuda")
        return [
            muon,
            torch.optim.AdamW(others, lr=options.other_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=fused),
        ]

    @property
    def progress(self) -> float:
        """How much of the run is done or skipped, 0..1."""
        if self.options.steps is not None:
            done = self.step / self.options.steps
        else:
            done = self.elapsed_s / (60 * self.options.minutes)
        return min(1.0, done + self.skipped)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16)

    def train_on(self, batch: Batch) -> dict[str, float]:
        """One step; returns the parts of the loss."""
        rate = learning_rate(self.progress, self.step, self.options.warm_up, self.options.cool_down)
        for optimiser, peaks in zip(self.optimisers, self.peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * rate * self.options.rate
        loss, parts = self.loss(batch.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        parts["norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        told = dict(zip(parts, torch.stack(list(parts.values())).tolist(), strict=True))  # the host waits here, once
        if not math.isfinite(told["norm"]):
            raise FloatingPointError(f"the gradient is {told['norm']} in step {self.step}: lower the learning rate")
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return told

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch on the model's device, and its parts: scalars on that device."""
        with self._precision():
            hidden, cell, heard = self.model(batch.images, batch.tokens, batch.offsets, batch.segments)
            loss, parts = token_loss(self.model, hidden, batch, judged=self.options.judged)
            auxiliary = self.model.auxiliary
            if auxiliary is not None and cell is not None and heard is not None:
                extra, more = auxiliary_loss(auxiliary, cell, heard, batch)
                fade = min(1.0, max(0.2, 4 * (1 - self.progress)))
                loss, parts = loss + self.options.auxiliary * fade * extra, parts | more
        return loss, parts

    def run(self, report: Callable[[str], None], on_progress: Callable[[float], None] = lambda share: None) -> None:
        """Train to the end of the budget.

        Args:
            report: takes a line of the log now and then.
            on_progress: is told the progress 0..1 after each step.
        """
        options = self.options
        looking = options.look_minutes > 0 or options.look_steps is not None
        validation = Validation(options.data) if looking else None
        stream = BatchStream(options.data, start=self.step, workers=options.workers)
        saved = last = time.monotonic()
        began, since = self.step, self.elapsed_s
        waited = 0.0
        try:
            while self.progress < 1:
                asked = time.monotonic()
                batch = stream.next(self.progress)
                waited += time.monotonic() - asked
                parts = self.train_on(batch)
                now = time.monotonic()
                self.elapsed_s += now - last
                last = now
                for name, value in parts.items():
                    self.averages[name] = 0.95 * self.averages.get(name, value) + 0.05 * value
                on_progress(self.progress)
                if self.step % TRIM_STEPS == 0:
                    _trim_heap()
                if self.step in (1, 5, 10, 20) or self.step % 25 == 0:
                    spent = max(1e-9, self.elapsed_s - since)
                    speed = (self.step - began) * options.data.batch / spent
                    report(f"{self.status()} {speed:.1f}/s waiting {waited / spent:.0%}")
                if now - saved > 60 * options.save_minutes:
                    self.save()
                    saved = time.monotonic()
                if validation is not None and self.progress < 1 and self._look_is_due():
                    self.look(validation, report)
                    last = time.monotonic()  # a look does not count against the run's minutes
            if validation is not None and self.looked.last_step < self.step:  # also where the last look was cut off
                self.look(validation, report)
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            stream.close()
        self.save()

    def _look_is_due(self) -> bool:
        if self.options.look_steps is not None:
            return self.step % self.options.look_steps == 0
        return self.elapsed_s >= self.look_due_s

    def look(self, validation: Validation, report: Callable[[str], None]) -> None:
        """Look at the validation frames: keep the best weights, and begin to cool down where patience is at its end."""
        options = self.options
        figures = validation.measure(self.model, self.device, self._precision)
        self.looked = self.looked.after(figures["loss"], self.step)
        self.look_due_s = self.elapsed_s + 60 * options.look_minutes
        told = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
        is_best = self.looked.best_step == self.step
        report(f"look {self.looked.looks} step {self.step} {told}{' best' if is_best else ''}")
        steady = options.warm_up <= self.step and self.progress < 1 - options.cool_down
        if options.patience and steady and not self.skipped and self.looked.without >= options.patience:
            self.skipped = 1 - options.cool_down - self.progress
            report(f"{self.looked.without} looks brought nothing: {self.skipped:.0%} of the run skipped, cooling down")
        if is_best:
            path = options.directory / BEST_CHECKPOINT
            write_best(path, self.model.state_dict(), asdict(options.sizes), self.step, figures["loss"])
            self.save()  # so that no resumed run stands before its best weights

    def status(self) -> str:
        """Where the run stands, in one line: step, frames, minutes, share of the peak rate, averaged losses."""
        options = self.options
        rate = learning_rate(self.progress, self.step, options.warm_up, options.cool_down)
        losses = " ".join(f"{name} {value:.3f}" for name, value in self.averages.items())
        frames = self.step * options.data.batch
        return f"step {self.step} frames {frames} {self.elapsed_s / 60:.1f} min rate {rate:.2f} {losses}"

    def save(self) -> None:
        """Write the checkpoint; a reader sees the old one or the new one, never half of it."""
        state = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "averages": self.averages,
            "skipped": self.skipped,
            "looked": self.looked.as_dict(),
            "look_due_s": self.look_due_s,
            "sizes": asdict(self.options.sizes),
            "random": torch.get_rng_state(),
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def _load(self) -> None:
        state = read_run(self.path)
        try:
            self.model.load_state_dict(state["model"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
        except (RuntimeError, ValueError, KeyError) as error:  # what torch says of other names and shapes
            first = str(error).splitlines()[1:2] or [str(error)]
            raise CheckpointError(
                f"{self.path} is of a model of other sizes or heads, and cannot be gone on from: {first[0].strip()}; "
                f"begin another run (--run), with --start {self.path} where only the heads differ"
            ) from error
        self.step, self.elapsed_s, self.averages = state["step"], state["elapsed_s"], state["averages"]
        if "looked" in state:  # checkpoints of runs that could not look have none
            self.skipped, self.look_due_s = state["skipped"], state["look_due_s"]
            self.looked = Progress(**state["looked"])
        torch.set_rng_state(state["random"])


def describe(options: TrainOptions) -> str:
    """The options as one line of JSON, for the log."""
    plain = asdict(replace(options, directory=Path(options.directory.name)))
    return json.dumps(plain, default=str)


def _trim_heap() -> None:
    """Let glibc give freed memory back; elsewhere there is nothing to do."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
