"""`python -m exaone_ros.training`: prerender, train, mtp, export, evaluate, calibration, acceptance, all.

On a CPU, train with `--threads 1` where the cores are shared with other work, and with the settings of glibc in
docs/training.md, which halve the time of a step.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.sim.frame import LabelledFrame

RUN = Path("runs/tabletop")
POOL = Path("runs/pool")
MODEL = Path("models/exaone4_5-tabletop-tiny")
WEIGHTS = {"last": "checkpoint.pt", "best": "best.pt"}
"""File of a run that `--weights` names; see `checkpoints`, which is not imported here because torch takes seconds."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exaone_ros.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    prerender = commands.add_parser("prerender", help="render MuJoCo frames of training seeds into a pool")
    prerender.add_argument("--pool", type=Path, default=POOL)
    prerender.add_argument("--frames", type=int, default=10_000)
    prerender.add_argument("--validation", type=int, default=200, help="frames that training looks at to stop early")
    prerender.add_argument("--workers", type=int, default=1, help="processes that render")
    train = commands.add_parser("train", help="train from scratch, or go on where the run's checkpoint stands")
    train.add_argument("--run", type=Path, default=RUN, help="folder of checkpoint and log")
    train.add_argument(
        "--start", type=Path, default=None, help="take the weights of this checkpoint.pt or model folder"
    )
    train.add_argument("--pool", type=Path, default=None, help="frames made by prerender; without it flat frames only")
    train.add_argument("--minutes", type=float, default=80.0, help="of training in all, over all resumes")
    train.add_argument("--steps", type=int, default=None, help="instead of minutes")
    train.add_argument("--rate", type=float, default=1.0, help="share of the usual peak learning rates")
    train.add_argument("--batch", type=int, default=24, help="frames of a step")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda has not been tried")
    train.add_argument("--threads", type=int, default=0, help="of the CPU; 0 = as torch chooses")
    train.add_argument("--workers", type=int, default=1, help="processes that render")
    train.add_argument("--look-minutes", type=float, default=5.0, help="between looks at validation frames; 0 = never")
    train.add_argument("--look-steps", type=int, default=None, help="between looks, instead of minutes")
    train.add_argument("--patience", type=int, default=0, help="looks without a gain until it cools down; 0 = never")
    train.add_argument("--share", type=float, default=0.5, help="of the frames that are pictures of --data")
    _data_arguments(train)
    mtp = commands.add_parser("mtp", help="train the MTP layer on a trained run, for speculative decoding")
    mtp.add_argument("--run", type=Path, default=RUN, help="folder of the trained checkpoint; mtp.pt is written there")
    mtp.add_argument("--pool", type=Path, default=None, help="frames made by prerender; without it flat frames only")
    mtp.add_argument("--minutes", type=float, default=8.0)
    mtp.add_argument("--steps", type=int, default=None, help="instead of minutes")
    mtp.add_argument("--batch", type=int, default=12, help="frames of a step")
    mtp.add_argument("--seed", type=int, default=0)
    mtp.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda has not been tried")
    mtp.add_argument("--threads", type=int, default=0, help="of the CPU; 0 = as torch chooses")
    mtp.add_argument("--workers", type=int, default=1, help="processes that render")
    _weights_argument(mtp)
    export = commands.add_parser("export", help="write the Hugging Face directory of a run's checkpoint")
    export.add_argument("--run", type=Path, default=RUN)
    export.add_argument("--model", type=Path, default=MODEL)
    _weights_argument(export)
    evaluate = commands.add_parser("evaluate", help="measure a model through the engine")
    evaluate.add_argument("--model", type=Path, default=MODEL)
    evaluate.add_argument("--backend", default="onnxruntime")
    evaluate.add_argument(
        "--frames", type=int, default=None,
        help="in the main columns, a third in the others; default: as many as the model's evaluation.json, or 300",
    )  # fmt: skip
    _data_arguments(evaluate)
    evaluate.add_argument("--only", nargs="*", default=None, help="columns, by name")
    evaluate.add_argument("--threads", type=int, default=0)
    evaluate.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures there too")
    evaluate.add_argument("--card", action="store_true", help="write the model card from the figures")
    calibration = commands.add_parser("calibration", help="hold scores and probabilities against the truth")
    calibration.add_argument("--model", type=Path, default=MODEL)
    calibration.add_argument("--backend", default="onnxruntime")
    calibration.add_argument("--split", choices=("validation", "test"), default="validation")
    calibration.add_argument("--frames", type=int, default=200)
    calibration.add_argument("--threads", type=int, default=0)
    calibration.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures there too")
    calibration.add_argument("--docs", type=Path, default=None, metavar="PAGE", help="write the tables into this page")
    evaluate.add_argument("--made", default="", help="the card's paragraph on how the model was made")
    acceptance = commands.add_parser("acceptance", help="measure what drafts are worth, through the engine")
    acceptance.add_argument("--model", type=Path, default=MODEL)
    acceptance.add_argument("--backend", default="onnxruntime")
    acceptance.add_argument("--frames", type=int, default=20, help="validation frames")
    acceptance.add_argument("--only", nargs="*", default=None, help="settings, by name; 'none' is always measured")
    acceptance.add_argument("--looks", type=int, default=3, help="at each frame; 1 = every view is a new one")
    acceptance.add_argument("--shift-px", type=int, default=0, help="each look is moved sideways by so many pixels")
    acceptance.add_argument("--threads", type=int, default=0)
    acceptance.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures there too")
    _add_all(commands)
    return parser


def _add_all(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    whole = commands.add_parser(
        "all", help="render, train, export and measure, each step once; goes on where it stopped"
    )
    whole.add_argument("--run", type=Path, default=RUN)
    whole.add_argument("--pool", type=Path, default=POOL)
    whole.add_argument("--model", type=Path, default=Path("models/mine"))
    whole.add_argument("--budget", type=float, default=None, help="minutes; default: 180 on a CPU, 25 with CUDA")
    whole.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda has not been tried")
    whole.add_argument("--patience", type=int, default=4, help="looks without a gain until training cools down")
    whole.add_argument("--seed", type=int, default=0)
    whole.add_argument("--frames", type=int, default=150, help="evaluated in the main columns")
    whole.add_argument(
        "--start", type=Path, default=None, help="weights to begin with; with --data the bundled model's"
    )
    whole.add_argument("--workers", type=int, default=1, help="processes that render")
    _data_arguments(whole)


def _data_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, default=None, metavar="COCO.json", help="pictures of your own objects")
    command.add_argument("--images", type=Path, default=None, help="folder of those pictures; default: of the JSON")


def _weights_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--weights", choices=("last", "best"), default="last",
        help="of the run: those at its end, or those of the look with the least validation loss",
    )  # fmt: skip


@ends_with_its_reader
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    commands = {
        "prerender": _prerender, "train": _train, "mtp": _mtp, "export": _export, "evaluate": _evaluate,
        "calibration": _calibration, "acceptance": _acceptance, "all": _all,
    }  # fmt: skip
    try:
        commands[options.command](options)
    except ExaoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _all(options: argparse.Namespace) -> None:
    from exaone_ros.training import whole

    start = MODEL if options.start is None and options.data is not None else options.start
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    whole.carry_out(
        whole.WholeOptions(
            run=options.run, pool=options.pool, model=options.model, budget=options.budget, device=options.device,
            patience=options.patience, seed=options.seed, frames=options.frames, start=start, data=options.data,
            images=options.images, workers=options.workers,
        )
    )  # fmt: skip


def _prerender(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from exaone_ros.training.prerender import fill_pool

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # processes that render must not be left behind
    with tqdm(total=options.frames + options.validation, unit="frame") as bar:
        fill_pool(
            options.pool, options.frames, lambda count: bar.update(count), validation=options.validation,
            workers=options.workers,
        )  # fmt: skip


def _train(options: argparse.Namespace) -> None:
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
    trainer = Trainer(settings)
    _run(trainer, options.run / "train.log", describe(settings))


def _mtp(options: argparse.Namespace) -> None:
    from exaone_ros.training.data import DataOptions
    from exaone_ros.training.mtp_trainer import MtpOptions, MtpTrainer, describe

    data = DataOptions(batch=options.batch, seed=options.seed + 1, pool=options.pool, easy_frames=0, easy_until=0.0)
    settings = MtpOptions(
        directory=options.run, minutes=options.minutes, steps=options.steps, data=data, seed=options.seed,
        device=options.device, threads=options.threads, workers=options.workers,
        checkpoint=WEIGHTS[options.weights],
    )  # fmt: skip
    _run(MtpTrainer(settings), options.run / "mtp.log", describe(settings))


class _Runs(Protocol):
    def run(self, report: Callable[[str], None], on_progress: Callable[[float], None]) -> None: ...


def _run(trainer: _Runs, log_file: Path, opening: str) -> None:
    """Run to the end with a progress bar and a log."""
    from tqdm import tqdm

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends the run loses nothing
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
        trainer.run(report, lambda share: bar.update(100 * share - bar.n) and None)


def _export(options: argparse.Namespace) -> None:
    from exaone_ros.training.export import export
    from exaone_ros.training.measured import outdated

    parameters = export(options.run / WEIGHTS[options.weights], options.model)
    print(f"wrote {options.model}: {parameters / 1e6:.2f} million parameters")
    for line in outdated(options.model):
        print(f"{line}; measure again")


def _evaluate(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from exaone_ros.engine.engine import Engine
    from exaone_ros.training import targets
    from exaone_ros.training.acceptance import read_worth
    from exaone_ros.training.card import refuse_other, write_card
    from exaone_ros.training.evaluate import OWN_COLUMN, Examiner, examinations, markdown, own_examination
    from exaone_ros.training.export import count_parameters
    from exaone_ros.training.measured import CARD_FILE, EVALUATION_FILE, WORTH_FILE, doubt, fingerprint_of, read_figures
    from exaone_ros.training.own_pictures import read_coco

    weights = fingerprint_of(options.model)
    drafts = read_worth(options.model / WORTH_FILE) if options.card else None
    if drafts is not None:  # before an hour of measuring, not behind it
        refuse_other(options.model / WORTH_FILE, drafts, weights)
    shipped = read_figures(options.model / EVALUATION_FILE)
    number = options.frames or shipped.get("frames", 300)
    chosen = examinations(number)
    if options.data is not None:
        chosen[OWN_COLUMN] = own_examination(read_coco(options.data, options.images))
    unknown = sorted(set(options.only or ()) - set(chosen))
    if unknown:
        raise ExaoneError(f"column {unknown[0]!r} is unknown; expected some of {sorted(chosen)}")
    tables: dict[str, dict[str, dict[str, float]]] = {}
    report: dict[str, Any] = {
        "model": options.model.name,
        "weights": weights,
        "backend": options.backend,
        "frames": number,
        "tables": tables,
    }
    with Engine.open(options.model, options.backend, slots=24, threads=options.threads) as engine:
        for name, column in chosen.items():
            if options.only is None or name in options.only:
                shown = _shown(column.frames, name, tqdm)
                tables[name] = Examiner(engine).examine(
                    shown, column.language, column.kinds, column.thinking, column.questioner
                )
                if options.json is not None:  # after each column: a run that is cut short keeps what it has
                    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    found = targets.verdicts(tables)
    if options.json is not None:
        report["targets"] = targets.as_json(found)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{markdown(tables)}\n\n{targets.markdown(found)}")
    if shipped.get("frames") == number:
        reason = doubt(options.model / EVALUATION_FILE, shipped.get("weights"), weights)
        print(f"\n{targets.compared(tables, shipped.get('tables', {}), reason)}")
    if options.card:
        if fingerprint_of(options.model) != weights:
            raise ExaoneError(
                f"the weights in {options.model} were replaced while they were measured; expected the same at the end: "
                "no card is written, measure again"
            )
        parameters = count_parameters(options.model)
        write_card(options.model / CARD_FILE, report, options.made, parameters, drafts)


def _calibration(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from exaone_ros.engine.engine import Engine
    from exaone_ros.training.calibration import collect, markdown, report_of, write_into
    from exaone_ros.training.evaluate import mujoco_frames

    with Engine.open(options.model, options.backend, slots=24, threads=options.threads) as engine:
        frames = tqdm(mujoco_frames(options.split, options.frames), total=options.frames, unit="frame")
        claims = collect(engine, frames)
    report = report_of(options.model.name, options.backend, options.split, options.frames, claims)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(markdown(report))
    if options.docs is not None:
        write_into(options.docs, report)


def _shown(
    frames: Callable[[], Iterator[LabelledFrame]], name: str, bar: Callable[..., Iterator[LabelledFrame]]
) -> Iterator[LabelledFrame]:
    return bar(frames(), desc=name, unit="frame")


def _acceptance(options: argparse.Namespace) -> None:
    from exaone_ros.training.acceptance import SETTINGS, WorthReport, markdown, measure, possible, write_worth
    from exaone_ros.training.evaluate import mujoco_frames
    from exaone_ros.training.measured import fingerprint_of

    weights = fingerprint_of(options.model)
    wanted = possible(options.model) if options.only is None else options.only
    unknown = sorted(set(wanted) - set(SETTINGS))
    if unknown:
        raise ExaoneError(f"setting {unknown[0]!r} is unknown; expected some of {sorted(SETTINGS)}")
    if options.only is None and len(wanted) < len(SETTINGS):
        print(f"{options.model} has no MTP layer: measuring the settings that need none")
    images = [frame.image for frame in mujoco_frames("validation", options.frames)]
    worth = measure(
        options.model, images, wanted, options.backend, options.threads, options.looks, options.shift_px,
        lambda name: print(name, flush=True),
    )  # fmt: skip
    print(markdown(worth))
    if options.json is not None:
        write_worth(options.json, WorthReport(worth, weights))
