"""Commands that make a model: prerender, train, mtp, export, all."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from exaone_ros.errors import CheckpointError, ExaoneError
from exaone_ros.training.cli_arguments import WEIGHTS
from exaone_ros.training.cli_checks import (
    bundled_model,
    check_data,
    check_device,
    check_folder,
    check_pool,
    check_start,
)


def prerender(options: argparse.Namespace) -> None:
    """Render MuJoCo frames into a pool."""
    from tqdm import tqdm

    from exaone_ros.training.prerender import fill_pool

    check_folder(options.pool, "--pool")
    with tqdm(total=options.frames + options.validation, unit="frame") as bar:
        fill_pool(
            options.pool, options.frames, lambda count: bar.update(count), validation=options.validation,
            workers=options.workers,
        )  # fmt: skip


def train(options: argparse.Namespace) -> None:
    """Train, from scratch or on."""
    check_folder(options.run, "--run")
    check_pool(options.pool)
    check_data(options)
    check_start(options.start)
    check_device(options.device)
    from exaone_ros.training.data import DataOptions
    from exaone_ros.training.own_pictures import read_coco
    from exaone_ros.training.own_sizes import own_sizes
    from exaone_ros.training.trainer import Trainer, TrainOptions, describe

    data = DataOptions(
        batch=options.batch, seed=options.seed, pool=options.pool, own=options.data, own_images=options.images,
        own_share=options.share,
    )  # fmt: skip
    if options.data is not None:
        own = read_coco(options.data, options.images)
        data = replace(data, sizes=own_sizes(data.sizes, own))
        print(f"{len(own.training)} pictures to learn from, {len(own.held_out)} held out; {', '.join(own.names.names)}")
    if options.start is not None:  # it has seen easy frames
        data = replace(data, easy_frames=0, easy_until=0.0)
    settings = TrainOptions(
        directory=options.run, start=options.start, minutes=options.minutes, steps=options.steps, data=data,
        seed=options.seed, rate=options.rate,
        device=options.device, threads=options.threads, workers=options.workers,
        # An exported folder has no auxiliary heads: untrained ones would only disturb trained weights.
        auxiliary=0.0 if options.start is not None and options.start.is_dir() else 1.0,
        look_minutes=options.look_minutes, look_steps=options.look_steps, patience=options.patience,
    )  # fmt: skip
    _run(Trainer(settings), options.run / "train.log", describe(settings))


def mtp(options: argparse.Namespace) -> None:
    """Train the MTP layer on a trained run."""
    check_pool(options.pool)
    _checkpoint_of(options)
    check_device(options.device)
    from exaone_ros.training.data import DataOptions
    from exaone_ros.training.mtp_trainer import MtpOptions, MtpTrainer, describe

    data = DataOptions(batch=options.batch, seed=options.seed + 1, pool=options.pool, easy_frames=0, easy_until=0.0)
    settings = MtpOptions(
        directory=options.run, minutes=options.minutes, steps=options.steps, data=data, seed=options.seed,
        device=options.device, threads=options.threads, workers=options.workers,
        checkpoint=WEIGHTS[options.weights],
    )  # fmt: skip
    _run(MtpTrainer(settings), options.run / "mtp.log", describe(settings))


def export(options: argparse.Namespace) -> None:
    """Write the Hugging Face directory of a run's weights."""
    checkpoint = _checkpoint_of(options)
    check_folder(options.model, "--model")
    from exaone_ros.training.export import export as write
    from exaone_ros.training.measured import outdated

    parameters = write(checkpoint, options.model)
    print(f"wrote {options.model}: {parameters / 1e6:.2f} million parameters")
    for line in outdated(options.model):
        print(f"{line}; measure again")


def everything(options: argparse.Namespace) -> None:
    """All steps, each once."""
    from exaone_ros.training import whole

    for folder, option in ((options.run, "--run"), (options.pool, "--pool"), (options.model, "--model")):
        check_folder(folder, option)
    start = bundled_model() if options.start is None and options.data is not None else options.start
    check_start(start)
    check_device(options.device)
    check_data(options)
    if options.data is not None:
        from exaone_ros.training.evaluate import own_examination
        from exaone_ros.training.own_pictures import read_coco

        column = own_examination(read_coco(options.data, options.images))
        for _ in column.frames():  # what could not be judged is not trained for an hour
            pass
    whole.carry_out(
        whole.WholeOptions(
            run=options.run, pool=options.pool, model=options.model, budget=options.budget, device=options.device,
            patience=options.patience, seed=options.seed, frames=options.frames, start=start, data=options.data,
            images=options.images, workers=options.workers,
        )
    )  # fmt: skip


class _Runs(Protocol):
    def run(self, report: Callable[[str], None], on_progress: Callable[[float], None]) -> None: ...


def _run(trainer: _Runs, log_file: Path, opening: str) -> None:
    """Run to the end with a progress bar and a log."""
    from tqdm import tqdm

    shape = "{desc}{percentage:3.0f}% |{bar}| {elapsed} < {remaining}"
    with (
        log_file.open("a", encoding="utf-8") as log,
        tqdm(total=100.0, bar_format=shape, mininterval=1.0) as bar,
    ):

        def report(line: str) -> None:
            log.write(line + "\n")
            log.flush()
            bar.write(line)

        report(opening)
        try:
            trainer.run(report, lambda share: bar.update(100 * share - bar.n) and None)
        except FloatingPointError as error:  # the loss ran away; checkpoints before that are sound
            raise ExaoneError(f"{error} (--rate), and begin in another --run") from error


def _checkpoint_of(options: argparse.Namespace) -> Path:
    """The file of `--run` that `--weights` names.

    Raises:
        CheckpointError: it is not there.
    """
    found: Path = options.run / WEIGHTS[options.weights]
    if found.is_file():
        return found
    if options.weights == "best" and (options.run / WEIGHTS["last"]).is_file():
        raise CheckpointError(
            f"{found} does not exist; expected the weights of a look at validation frames: train with looks "
            "(--look-minutes), or take --weights last"
        )
    raise CheckpointError(f"{found} does not exist; expected the folder of a training run: `train --run {options.run}`")
