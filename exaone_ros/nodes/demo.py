"""The demo: a simulated robot looks at a table, the perception node answers, and this process reads along.

    python -m exaone_ros.nodes.demo --seconds 30 --out demo_out

Three processes over DDS, as on a robot: `simulator`, `perception`, and this one, which only listens. It shows a
live table, and at the end compares every answer with the simulator's truth of the very frame it was read from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from exaone_ros.errors import ExaoneError
from exaone_ros.nodes.watch import (
    CAMERA,
    COMPRESSED,
    TYPES,
    Moment,
    Watch,
    decode_jpeg,
    detections_of,
    is_answered,
)
from exaone_ros.pipes import ended_by_signals, ends_with_its_reader
from exaone_ros.ros.bag import BagRecorder
from exaone_ros.ros.children import Child, prepare_environment
from exaone_ros.ros.health import State
from exaone_ros.ros.listen import spinning
from exaone_ros.ros.messages import time_to_ns
from exaone_ros.share import share_path
from exaone_ros.view.annotate import annotate, wrapped
from exaone_ros.view.movie import write_movie
from exaone_ros.view.table import LiveState, render
from exaone_ros.view.tally import Tally, TrueObject

STARTUP_S = 120.0
MARK = ".exaone_demo"
"""In a directory that a demo made: nothing else is ever emptied."""
CLEAR_OPTIONS = {"clear", "blocked", "person"}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to watch (default 30)")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="directory for the results")
    # none of the first ten tables of seed 0 is empty, and there are a person, an obstacle and a free way among them
    parser.add_argument("--seed", type=int, default=0, help="of the simulated scenes")
    parser.add_argument("--rate", type=float, default=10.0, help="camera frames per second")
    parser.add_argument("--scene-period", type=float, default=3.0, help="seconds until the table is laid anew")
    parser.add_argument("--model", default="", help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--backend", default="onnxruntime", help="engine backend")
    parser.add_argument(
        "--max-age", type=float, help="seconds that an answer's image may be old; more on a slow machine (default 1)"
    )
    return parser.parse_args(argv)


@ends_with_its_reader
@ended_by_signals()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0 when at least one answer was read, 1 otherwise."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    console = Console()
    out: Path = arguments.out
    if out.exists() and any(out.iterdir()) and not (out / MARK).is_file():
        console.print(f"[red]{out} exists and is not a demo's output; choose another --out[/red]")
        return 2
    shutil.rmtree(out, ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    (out / MARK).touch()
    prepare_environment()
    try:
        moments, state = watch(arguments, console)
    except ExaoneError as error:
        console.print(str(error), style="red", markup=False)  # a log is full of what looks like markup
        return 1
    except KeyboardInterrupt:
        console.print("interrupted: nothing was scored; the bag and the logs of what was seen are in " + str(out))
        return 1
    tally = score(moments)
    summary = summarise(tally, moments, state, arguments)
    write_pictures(moments, arguments, console)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    report(summary, out, console)
    return 0 if summary["answers"] else 1


def watch(arguments: argparse.Namespace, console: Console) -> tuple[dict[int, Moment], LiveState]:
    """Start the two nodes, read along for the given time, end them. Returns the frames by stamp and the last state.

    Raises:
        ExaoneError: a node ended early or nothing was answered within `STARTUP_S`; the message holds its log's tail.
    """
    out: Path = arguments.out
    topics = {COMPRESSED: "sensor_msgs/msg/CompressedImage"}
    for topic, kind in TYPES.items():
        package = kind.__module__.split(".")[0]
        topics[topic] = f"{package}/msg/{kind.__name__}"
    reliable = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
    # rclpy's own handler would take the context away from those who still read and end
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    state = LiveState()
    try:
        with BagRecorder(out / "bag", topics) as recorder:
            node = Watch(recorder, reliable)
            with (
                spinning(node),
                Child("simulator", simulator_arguments(arguments), out / "logs" / "simulator.log") as simulator,
                Child("perception", perception_arguments(arguments), out / "logs" / "perception.log") as perception,
            ):
                children = (simulator, perception)
                wait_for_answers(node, children, console)
                with node.lock:
                    node.moments.clear()
                start = time.monotonic()
                with Live(render(state), console=console, refresh_per_second=4, transient=False) as live:
                    while (elapsed := time.monotonic() - start) < arguments.seconds:
                        refresh(state, node, elapsed)
                        live.update(render(state))
                        check(children)
                        time.sleep(0.25)
                with node.lock:
                    state.elapsed_s = time.monotonic() - start
                    return watched(node.moments), state
    finally:
        rclpy.try_shutdown()


def watched(moments: Mapping[int, Moment]) -> dict[int, Moment]:
    """By stamp, the moments whose image was seen: an answer to an image of before the watch is none of its own."""
    return {stamp: moment for stamp, moment in sorted(moments.items()) if moment.jpeg}


def simulator_arguments(arguments: argparse.Namespace) -> list[str]:
    """ROS arguments of the simulator process."""
    values = {"rate_hz": arguments.rate, "seed": arguments.seed, "scene_period_s": arguments.scene_period}
    return ["--ros-args", *(item for key, value in values.items() for item in ("-p", f"{key}:={value}"))]


def perception_arguments(arguments: argparse.Namespace) -> list[str]:
    """ROS arguments of the perception process."""
    out = ["--ros-args", "-r", "__ns:=/exaone", "--params-file", str(share_path("config/perception.yaml"))]
    out += ["-p", "autostart:=true", "-p", f"image_topic:={CAMERA}/image_raw", "-p", f"backend:={arguments.backend}"]
    out += ["-p", f"max_age_s:={arguments.max_age}"] if arguments.max_age is not None else []
    return out + (["-p", f"model:={Path(arguments.model).resolve()}"] if arguments.model else [])


def check(children: Sequence[Child]) -> None:
    """Raise ExaoneError when a process has ended."""
    for child in children:
        if not child.running:
            code = child.process.returncode
            raise ExaoneError(f"the {child.node} node ended with code {code}; its log:\n{child.tail()}")


def refuse_failure(node: Watch) -> None:
    """Raise ExaoneError when perception says that it could not start."""
    with node.lock:
        diagnostics = node.latest.get("/diagnostics")
    if diagnostics is not None and diagnostics.status:
        message = str(diagnostics.status[0].message)
        if message.startswith((State.CONFIGURE_FAILED.value, State.ACTIVATE_FAILED.value)):
            raise ExaoneError(f"the perception node cannot start; {message}")


def wait_for_answers(node: Watch, children: Sequence[Child], console: Console) -> None:
    """Block until the first answer, with a progress bar over the waiting."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting simulator and perception", total=None)
        deadline = time.monotonic() + STARTUP_S
        while not node.first_answer.wait(0.2):
            check(children)
            refuse_failure(node)
            progress.update(bar, advance=1)
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {child.node}\n{child.tail()}" for child in children)
                raise ExaoneError(
                    f"nothing was answered within {STARTUP_S:.0f} s; the logs end with:\n{logs}\nWhere the machine is "
                    "slow or busy, let answers be older: make demo ARGS='--max-age 5'"
                )


def refresh(state: LiveState, node: Watch, elapsed_s: float) -> None:
    """Bring the live table up to date."""
    with node.lock:
        latest = dict(node.latest)
        moments = list(node.moments.values())
        state.said = [(said.question, said.text or said.message) for said in node.said.values()]
    state.elapsed_s = elapsed_s
    state.frames = sum(bool(moment.jpeg) for moment in moments)
    state.answers = sum(map(is_answered, (answer for moment in moments for answer in moment.answers.values())))
    state.detections = detections_of(latest.get("/exaone/detections"))
    if counts := latest.get("/exaone/counts"):
        state.counts = [(entry.label, entry.count, entry.probability) for entry in counts.counts]
    if decision := latest.get("/exaone/decision"):
        state.choice, state.reason, state.instruction = decision.choice, decision.reason, decision.instruction
        state.options = list(zip(decision.options, decision.probabilities, strict=False))
        state.age_ms = time_to_ns(decision.age) * 1e-6
        state.latency_ms = time_to_ns(decision.latency) * 1e-6
    if diagnostics := latest.get("/diagnostics"):
        state.health, state.stages_ms = health_of(diagnostics)


def health_of(diagnostics: DiagnosticArray) -> tuple[str, dict[str, tuple[float, float]]]:
    """(message of the first status, stage -> (p50, p95) in ms) from the perception node's diagnostics."""
    stages: dict[str, tuple[float, float]] = {}
    for status in diagnostics.status:
        values = {pair.key: pair.value for pair in status.values}
        for key, value in values.items():
            if key.startswith("stage.") and key.endswith(".p50"):
                upper = values[key.removesuffix("p50") + "p95"]
                stages[key.split(".")[1]] = (float(value.split()[0]), float(upper.split()[0]))
    return (diagnostics.status[0].message if diagnostics.status else "no status"), stages


def score(moments: dict[int, Moment]) -> Tally:
    """Compare each answer with the truth of its own frame."""
    tally = Tally()
    for moment in moments.values():
        truth: list[TrueObject] | None = moment.truth
        for kind, message in moment.answers.items():
            tally.latency(f"{kind}_received", moment.received_s[kind] * 1e3)
            if kind != "detections":
                tally.latency(f"{kind}_engine", time_to_ns(message.latency) * 1e-6)
                tally.latency(f"{kind}_age", time_to_ns(message.age) * 1e-6)
            if truth is None:
                continue
            if kind == "detections":
                tally.detections([(d.label, d.box) for d in detections_of(message)], truth)
            elif kind == "counts":
                for entry in message.counts:
                    tally.count(entry.label, entry.count, truth)
            elif kind == "decision" and set(message.options) == CLEAR_OPTIONS:
                tally.decision(message.choice, truth)
    return tally


def summarise(
    tally: Tally, moments: dict[int, Moment], state: LiveState, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The figures of the run. Stages of the engine are those that the node's diagnostics gave for its last 10 s."""
    answers = sum(map(is_answered, (answer for moment in moments.values() for answer in moment.answers.values())))
    figures = tally.summary()
    figures["latency_ms"] |= {stage: {"p50": p50, "p95": p95} for stage, (p50, p95) in state.stages_ms.items()}
    return {
        "frames": len(moments),
        "answered_frames": sum(any(map(is_answered, moment.answers.values())) for moment in moments.values()),
        "answers": answers,
        "answers_per_s": round(answers / state.elapsed_s, 2),
        **figures,
        "seconds": round(state.elapsed_s, 1),
        "seed": arguments.seed,
        "backend": arguments.backend,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def write_pictures(moments: dict[int, Moment], arguments: argparse.Namespace, console: Console) -> None:
    """Draw every answered frame into the video."""
    answered = [moment for moment in moments.values() if moment.jpeg and "detections" in moment.answers]
    if not answered:
        return
    words = any("answer" in moment.answers for moment in answered)  # every picture of a video has the same size
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("writing the annotated video", total=len(answered))
        write_movie(
            arguments.out,
            len(answered),
            lambda i: picture(answered[i], words),
            rate_hz=len(answered) / max(arguments.seconds, 1.0),
            progress=lambda done: progress.update(bar, completed=done),
        )


def picture(moment: Moment, words: bool = False) -> Any:
    """One answered frame with its boxes, the true boxes, counts, decision and, with `words`, two lines of an answer."""
    lines = ["", ""]
    image = decode_jpeg(moment.jpeg)
    if counts := moment.answers.get("counts"):
        lines[0] = "count  " + "  ".join(f"{entry.label or 'all'}: {entry.count}" for entry in counts.counts)
    if decision := moment.answers.get("decision"):
        chances = dict(zip(decision.options, decision.probabilities, strict=False))
        lines[1] = f"{decision.choice} ({chances.get(decision.choice, float('nan')):.2f}): {decision.reason}"
    if words:
        answer = moment.answers.get("answer")
        lines += wrapped(f"{answer.question} {answer.text}" if answer else "", image.shape[1], 2)
    truth = [thing.box for thing in moment.truth or ()]
    return annotate(image, detections_of(moment.answers["detections"]), lines, truth)


def report(summary: dict[str, Any], out: Path, console: Console) -> None:
    """Print the end of the run."""

    def figure(value: float | None) -> str:
        return "not scored" if value is None else f"{value:.3f}"

    console.print(
        f"\n{summary['answers']} answers on {summary['answered_frames']} of {summary['frames']} frames "
        f"in {summary['seconds']} s: {summary['answers_per_s']} answers/s"
    )
    for key in ("mean_iou", "f1_50", "count_accuracy", "decision_accuracy"):
        console.print(f"  {key:18s} {figure(summary[key])}")
    for stage, values in summary["latency_ms"].items():
        console.print(f"  {stage:22s} p50 {values['p50']:7.1f} ms   p95 {values['p95']:7.1f} ms")
    console.print(f"written to {out}/: summary.json, bag/ (MCAP), annotated.mp4, frame_*.png, logs/")
    if not summary["answers"]:
        console.print("[red]nothing was answered[/red]")


if __name__ == "__main__":
    sys.exit(main())
