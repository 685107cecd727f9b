"""What the commands of `python -m exaone_ros.training` take; values that cannot be are refused here, by name."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

RUN = Path("runs/tabletop")
POOL = Path("runs/pool")
MODEL = Path("models/exaone4_5-tabletop-tiny")
"""Where `export` writes the bundled model; `cli_checks.bundled_model` says where it is read from."""
WEIGHTS = {"last": "checkpoint.pt", "best": "best.pt"}
"""File of a run that `--weights` names; see `checkpoints`, which is not imported here because torch takes seconds."""

Commands = argparse._SubParsersAction  # the type of `add_subparsers`, which has no public name


def whole(least: int) -> Callable[[str], int]:
    """A converter to whole numbers of `least` or more."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"it is {text!r}; expected a whole number, {least} or more")
        return value

    return convert


def number(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """A converter to finite numbers of `least` (with `above`: of more than that) up to `most`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and (value > least if above else value >= least) and value <= most):
            lower = f"more than {least:g}" if above else f"{least:g} or more"
            upper = "" if math.isinf(most) else f", at most {most:g}"
            raise argparse.ArgumentTypeError(f"it is {text!r}; expected a number, {lower}{upper}")
        return value

    return convert


def parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of all commands."""
    made = argparse.ArgumentParser(
        prog="python -m exaone_ros.training", description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = made.add_subparsers(dest="command", required=True)
    _add_prerender(commands)
    _add_train(commands)
    _add_mtp(commands)
    _add_export(commands)
    _add_evaluate(commands)
    _add_calibration(commands)
    _add_acceptance(commands)
    _add_stress(commands)
    _add_all(commands)
    return made


def _add_prerender(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("prerender", help="render MuJoCo frames of training seeds into a pool")
    command.add_argument("--pool", type=Path, default=POOL)
    command.add_argument("--frames", type=whole(1), default=10_000)
    command.add_argument("--validation", type=whole(0), default=200, help="frames that training looks at to stop early")
    _workers_argument(command)


def _add_train(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("train", help="train from scratch, or go on where the run's checkpoint stands")
    command.add_argument("--run", type=Path, default=RUN, help="folder of checkpoint and log")
    command.add_argument(
        "--start", type=Path, default=None, help="take the weights of this checkpoint.pt or model folder"
    )
    _schedule_arguments(command, minutes=80.0, batch=24, over="of training in all, over all resumes")
    command.add_argument("--rate", type=number(0, above=True), default=1.0, help="share of the usual peak rates")
    command.add_argument(
        "--look-minutes", type=number(0), default=5.0, help="between looks at validation frames; 0 = never"
    )
    command.add_argument("--look-steps", type=whole(1), default=None, help="between looks, instead of minutes")
    command.add_argument(
        "--patience", type=whole(0), default=0, help="looks without a gain until it cools down; 0 = never"
    )
    command.add_argument("--share", type=number(0, 1), default=0.5, help="of the frames that are pictures of --data")
    _data_arguments(command)


def _add_mtp(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("mtp", help="train the MTP layer on a trained run, for speculative decoding")
    command.add_argument("--run", type=Path, default=RUN, help="folder of the trained checkpoint, and of mtp.pt")
    _schedule_arguments(command, minutes=8.0, batch=12, over="of training")
    _weights_argument(command)


def _add_export(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("export", help="write the Hugging Face directory of a run's checkpoint")
    command.add_argument("--run", type=Path, default=RUN)
    command.add_argument("--model", type=Path, default=MODEL)
    _weights_argument(command)


def _add_evaluate(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("evaluate", help="measure a model through the engine")
    _engine_arguments(command)
    command.add_argument(
        "--frames", type=whole(1), default=None,
        help="in the main columns, a third in the others; default: as many as the model's evaluation.json, or 300",
    )  # fmt: skip
    _data_arguments(command)
    command.add_argument("--only", nargs="+", default=None, help="columns, by name")
    command.add_argument("--card", action="store_true", help="write the model card from the figures")
    command.add_argument("--made", default="", help="the card's paragraph on how the model was made")


def _add_calibration(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("calibration", help="hold scores and probabilities against the truth")
    _engine_arguments(command)
    command.add_argument("--split", choices=("validation", "test"), default="validation")
    command.add_argument("--frames", type=whole(1), default=200)
    command.add_argument("--docs", type=Path, default=None, metavar="PAGE", help="write the tables into this page")


def _add_acceptance(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("acceptance", help="measure what drafts are worth, through the engine")
    _engine_arguments(command)
    command.add_argument("--frames", type=whole(1), default=20, help="validation frames")
    command.add_argument("--only", nargs="+", default=None, help="settings, by name; 'none' is always measured")
    command.add_argument("--looks", type=whole(1), default=3, help="at each frame; 1 = every view is a new one")
    command.add_argument("--shift-px", type=int, default=0, help="each look is moved sideways by so many pixels")


def _add_stress(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("stress", help="look where a model breaks: other light, rooms, cameras and words")
    _engine_arguments(command)
    command.add_argument("--frames", type=whole(1), default=24, help="of each condition")
    command.add_argument("--only", nargs="+", default=None, help="conditions, by name; other words are left out then")
    command.add_argument("--docs", type=Path, default=None, metavar="PAGE", help="write the tables into this page")


def _add_all(commands: Commands[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "all", help="render, train, export and measure, each step once; goes on where it stopped"
    )
    command.add_argument("--run", type=Path, default=RUN)
    command.add_argument("--pool", type=Path, default=POOL)
    command.add_argument("--model", type=Path, default=Path("models/mine"))
    command.add_argument(
        "--budget", type=number(0, above=True), default=None, help="minutes; default: 180 on a CPU, 25 with CUDA"
    )
    _device_argument(command)
    command.add_argument("--patience", type=whole(0), default=4, help="looks without a gain until training cools down")
    command.add_argument("--seed", type=whole(0), default=0)
    command.add_argument("--frames", type=whole(1), default=300, help="evaluated in the main columns")
    command.add_argument(
        "--start", type=Path, default=None, help="weights to begin with; with --data the bundled model's"
    )
    _workers_argument(command)
    _data_arguments(command)


def _schedule_arguments(command: argparse.ArgumentParser, *, minutes: float, batch: int, over: str) -> None:
    """What both kinds of training take."""
    command.add_argument(
        "--pool", type=Path, default=None, help="frames made by prerender; without it flat frames only"
    )
    command.add_argument("--minutes", type=number(0, above=True), default=minutes, help=over)
    command.add_argument("--steps", type=whole(1), default=None, help="instead of minutes")
    command.add_argument("--batch", type=whole(1), default=batch, help="frames of a step")
    command.add_argument("--seed", type=whole(0), default=0)
    _device_argument(command)
    command.add_argument("--threads", type=whole(0), default=0, help="of the CPU; 0 = as torch chooses")
    _workers_argument(command)


def _engine_arguments(command: argparse.ArgumentParser) -> None:
    """What everything that is measured through the engine takes."""
    command.add_argument("--model", type=Path, default=None, help="checkpoint directory (default: the bundled one)")
    command.add_argument("--backend", default="onnxruntime")
    command.add_argument("--threads", type=whole(0), default=0, help="of the CPU; 0 = one for each core")
    command.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures there too")


def _device_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda has not been tried")


def _workers_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=whole(0), default=1, help="processes that render; 0 = this one")


def _data_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, default=None, metavar="COCO.json", help="pictures of your own objects")
    command.add_argument("--images", type=Path, default=None, help="folder of those pictures; default: of the JSON")


def _weights_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--weights", choices=tuple(WEIGHTS), default="last",
        help="of the run: those at its end, or those of the look with the least validation loss",
    )  # fmt: skip
