"""`python -m exaone_ros.training`: prerender, train, evaluate, export."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

DEFAULT_RUN = Path("runs/tabletop")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prerender = commands.add_parser("prerender", help="render MuJoCo frames of training seeds into a pool")
    prerender.add_argument("--pool", type=Path, default=Path("runs/pool"))
    prerender.add_argument("--frames", type=int, default=10_000)
    train = commands.add_parser("train", help="train from scratch, or go on where the run's checkpoint stands")
    train.add_argument("--run", type=Path, default=DEFAULT_RUN, help="folder of checkpoint and log")
    train.add_argument("--pool", type=Path, default=None, help="frames made by prerender")
    train.add_argument("--minutes", type=float, default=80.0, help="of training in all, over all resumes")
    train.add_argument("--steps", type=int, default=None, help="instead of minutes")
    train.add_argument("--batch", type=int, default=24)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    train.add_argument("--threads", type=int, default=0, help="of the CPU; 0 = as torch chooses")
    train.add_argument("--workers", type=int, default=1, help="processes that render")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return int({"prerender": _prerender, "train": _train}[options.command](options))


def _prerender(options: argparse.Namespace) -> int:
    from exaone_ros.training.prerender import fill_pool

    fill_pool(options.pool, options.frames)
    return 0


def _train(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from exaone_ros.training.data import DataOptions
    from exaone_ros.training.trainer import Trainer, TrainOptions, describe

    data = DataOptions(batch=options.batch, seed=options.seed, pool=options.pool)
    settings = TrainOptions(
        directory=options.run, minutes=options.minutes, steps=options.steps, data=data, seed=options.seed,
        device=options.device, threads=options.threads, workers=options.workers,
    )  # fmt: skip
    trainer = Trainer(replace(settings))
    with (options.run / "train.log").open("a", encoding="utf-8") as log, tqdm(
        total=100, unit="%", bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed} < {remaining}", file=sys.stderr
    ) as bar:

        def report(line: str) -> None:
            log.write(line + "\n")
            log.flush()
            bar.write(line)

        def advance(share: float) -> None:
            bar.n = round(100 * share, 1)
            bar.refresh() if sys.stderr.isatty() else None

        report(describe(settings))
        trainer.run(report, advance)
    return 0
