"""The whole way from nothing to a measured model in one command: each step is a command of its own, done once.

A step runs as `python -m exaone_ros.training STEP ...` in a process of its own, so that its memory goes with it and the
settings of glibc that halve a step's time on a CPU are there from the start. What is done is written down in the run's
`steps.json`; the same command goes on behind it, and inside of a step that was cut off where the step can (rendering by
shards, training by checkpoints). A step whose arguments have changed, or whose file in the model's folder is gone, is
run again, and all behind it; training then goes on from the run's checkpoint, so another seed or start wants another
run folder.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exaone_ros.errors import ExaoneError
from exaone_ros.model.checkpoint import SINGLE_FILE
from exaone_ros.training.measured import EVALUATION_FILE, WORTH_FILE

STEPS_FILE = "steps.json"
GLIBC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "3221225472",
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_ARENA_MAX": "2",
}
LEAST_BUDGET = 5.0


@dataclass(frozen=True)
class Machine:
    """What is known of a kind of machine.

    Attributes:
        budget: minutes within which the whole is meant to be done.
        frames_per_minute: of the budget, MuJoCo frames that are rendered beforehand.
        train_share, mtp_share: parts of the budget; the rest is for rendering and measuring.
        batch: frames of a training step.
        threads: of the CPU, in training; 0 = as torch chooses.
    """

    budget: float
    frames_per_minute: float
    train_share: float
    mtp_share: float
    batch: int
    threads: int


MACHINES = {
    "cpu": Machine(180.0, 56.0, 0.78, 0.04, 24, 2),
    "cuda": Machine(25.0, 400.0, 0.56, 0.06, 96, 0),
}
"""On two cores, what is neither training nor drafting took 9 minutes of a budget of 155 (2,270 frames rendered a
minute, 2026-11-22), and up to three times as long where others had most of them. The figures for CUDA are estimates: no
such machine was at hand."""


@dataclass(frozen=True)
class WholeOptions:
    """What is to be made.

    Attributes:
        run, pool, model: folders of the training run, of the frames rendered beforehand, and of the finished model.
        budget: minutes for everything, or None for the machine's own.
        device: "cpu" or "cuda".
        patience: see `TrainOptions`.
        seed: of the run.
        frames: evaluated in the main columns.
        start: weights to begin with, or None.
        data, images: pictures of one's own objects, see `own_pictures`; then nothing is rendered beforehand, no layer
            for drafts is trained, and the model is judged on those pictures and on the simulator's camera.
        workers: processes that render.
    """

    run: Path
    pool: Path
    model: Path
    budget: float | None = None
    device: str = "cpu"
    patience: int = 4
    seed: int = 0
    frames: int = 300
    start: Path | None = None
    data: Path | None = None
    images: Path | None = None
    workers: int = 1


@dataclass(frozen=True)
class Step:
    """One command of the way.

    Attributes:
        name: of the command.
        arguments: of the command.
        makes: file of the model that it leaves; where that was deleted since, the step is not done. None = whatever it
            leaves may be deleted when the steps behind it are done, as the frames of a pool may.
    """

    name: str
    arguments: tuple[str, ...]
    makes: Path | None = None

    @property
    def command(self) -> str:
        """As a person would type it."""
        return shlex.join(("python", "-m", "exaone_ros.training", self.name, *self.arguments))


def plan(options: WholeOptions) -> tuple[Step, ...]:
    """The steps, in order.

    Raises:
        ExaoneError: an unknown device or too small a budget.
    """
    if options.device not in MACHINES:
        raise ExaoneError(f"device is {options.device!r}; expected one of {sorted(MACHINES)}")
    machine = MACHINES[options.device]
    budget = machine.budget if options.budget is None else options.budget
    if not budget >= LEAST_BUDGET:
        raise ExaoneError(f"budget is {budget:g} minutes; expected {LEAST_BUDGET:g} or more")
    run, pool, model = str(options.run), str(options.pool), str(options.model)
    workers = ("--workers", str(options.workers))
    with_device = ("--device", options.device, "--threads", str(machine.threads), *workers)
    learn: tuple[str, ...] = (
        "--run", run, "--minutes", f"{budget * machine.train_share:.1f}", "--batch", str(machine.batch),
        "--seed", str(options.seed), "--patience", str(options.patience), *with_device,
    )  # fmt: skip
    if options.start is not None:
        learn += ("--start", str(options.start), "--rate", "0.5")
    weights, evaluation, worth = (options.model / name for name in (SINGLE_FILE, EVALUATION_FILE, WORTH_FILE))
    export = Step("export", ("--run", run, "--model", model, "--weights", "best"), weights)
    measured = ("--model", model, "--frames", str(options.frames), "--json", str(evaluation))
    if options.data is not None:
        own = ("--data", str(options.data)) + (() if options.images is None else ("--images", str(options.images)))
        columns = ("--only", "mujoco", "own pictures")
        return (Step("train", learn + own), export, Step("evaluate", measured + own + columns, evaluation))
    frames, mtp_minutes = str(round(budget * machine.frames_per_minute)), f"{budget * machine.mtp_share:.1f}"
    return (
        Step("prerender", ("--pool", pool, "--frames", frames, *workers)),
        Step("train", (*learn, "--pool", pool)),
        Step(
            "mtp",
            ("--run", run, "--pool", pool, "--minutes", mtp_minutes, "--weights", "best", *with_device),
        ),
        export,
        Step("acceptance", ("--model", model, "--json", str(worth)), worth),
        Step("evaluate", (*measured, "--card", "--made", _made(budget, options)), evaluation),
        Step("calibration", ("--model", model, "--json", str(options.run / "calibration.json"))),
    )  # fmt: skip


def _made(budget: float, options: WholeOptions) -> str:
    """The card's paragraph on the machine."""
    if options.device == "cpu":
        where = f"{os.cpu_count()} CPU cores, without a GPU"
    else:
        import torch

        where = f"one {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "one CUDA GPU"
    began = "" if options.start is None else f", begun with the weights of `{options.start}`"
    return f"By `python -m exaone_ros.training all`, with a budget of {budget:g} minutes, on {where}{began}."


def carry_out(
    options: WholeOptions,
    report: Callable[[str], None] = print,
    execute: Callable[[Step], int] | None = None,
) -> None:
    """Carry out what is not done yet.

    Args:
        options: what is to be made.
        report: takes a line before and after each step, and one at the end.
        execute: runs a step and returns its exit status; None = in a process of its own.

    Raises:
        ExaoneError: a step failed, the same call goes on there; or the file of what is done is damaged.
    """
    steps = plan(options)
    options.run.mkdir(parents=True, exist_ok=True)
    file = options.run / STEPS_FILE
    done = _read(file)
    anew = False
    for number, step in enumerate(steps, start=1):
        what = f"[{number}/{len(steps)}] {step.name}"
        anew = anew or done.get(step.name, {}).get("arguments") != list(step.arguments)
        anew = anew or (step.makes is not None and not step.makes.is_file())
        if not anew:
            report(f"{what}: done before")
            continue
        report(f"{what}: {step.command}")
        for behind in steps[number - 1 :]:  # what was made of what this step makes anew is not done, whatever happens
            done.pop(behind.name, None)
        _write(file, done)
        began = time.monotonic()
        status = (execute or _execute)(step)
        if status != 0:
            raise ExaoneError(f"{step.name} ended with status {status} (see above); the same command goes on there")
        minutes = (time.monotonic() - began) / 60
        report(f"{what}: {minutes:.1f} minutes")
        done[step.name] = {"arguments": list(step.arguments), "minutes": round(minutes, 2)}
        _write(file, done)
    report(f"all is done: the model lies in {options.model}")


def _execute(step: Step) -> int:
    """Run a step; whoever interrupts this process waits until the step has saved what it has."""
    environment = GLIBC | dict(os.environ)
    command: Sequence[str] = (sys.executable, "-m", "exaone_ros.training", step.name, *step.arguments)
    # In a session of its own: a Ctrl-C reaches this process only, and the step is told once, not while it is saving.
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()  # to training the same as an interrupt: it saves
            process.wait()
            raise


def _read(file: Path) -> dict[str, dict[str, object]]:
    """What is done already."""
    if not file.is_file():
        return {}
    try:
        done = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExaoneError(
            f"{file} is damaged ({error}); expected what `all` wrote: delete it to do all steps again"
        ) from error
    if not isinstance(done, dict) or not all(isinstance(entry, dict) for entry in done.values()):
        raise ExaoneError(f"{file} does not hold what `all` wrote; delete it to do all steps again")
    return done


def _write(file: Path, done: dict[str, dict[str, object]]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)
