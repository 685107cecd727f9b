"""`python -m exaone_ros.bench`: all benchmarks in one run, a table for docs/benchmarks.md and bench.json.

`python -m exaone_ros.bench cameras`: several cameras on one model alone.
`python -m exaone_ros.bench precision`: what each precision costs in accuracy, a table for docs/tensorrt.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from exaone_ros.bench import (
    cameras,
    control_loop,
    demonstration,
    engine_promises,
    propagation,
    ros_overhead,
    three_questions,
)
from exaone_ros.bench.kept import gpu_sections
from exaone_ros.bench.machine import machine
from exaone_ros.bench.table import markdown
from exaone_ros.pipes import ended_by_signals, ends_with_its_reader
from exaone_ros.share import share_path
from exaone_ros.training import acceptance


@dataclass(frozen=True)
class Part:
    """One benchmark of the page.

    Attributes:
        title: for the progress bar.
        measure: given the checkpoint, the command line, and who is told of (done, total); returns what stands under the
            part's key in bench.json.
    """

    title: str
    measure: Callable[[Path, argparse.Namespace, Callable[[int, int], None]], Any]


def _three(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    return three_questions.measure(model, options.frames, options.threads, told)


def _ten(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    return three_questions.measure(model, max(1, options.frames // 2), options.threads, told, number=10)


def _later(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    return engine_promises.later_questions(model, _views(options), options.threads)


def _reasoning(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    return engine_promises.reasoning_beside(model, _views(options), options.threads, options.periods)


def _drafts(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    ways = acceptance.possible(model)
    worth = acceptance.measure(model, _views(options), ways, threads=options.threads, looks=1)
    return {name: asdict(entry) for name, entry in worth.items()}


def _views(options: argparse.Namespace) -> Any:
    return engine_promises.frames(max(1, options.frames // 2))


def _demo(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    return demonstration.measure(model, options.demo_seconds)


def _overhead(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    return ros_overhead.measure(model, options.threads, options.answers)


def _memory(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    return ros_overhead.memory(model, options.threads, options.memory_frames)


def _control(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    rows = []
    for done, variant in enumerate(control_loop.VARIANTS, 1):
        rows.append(control_loop.measure(model, options.threads, options.commands, **variant))
        told(done, len(control_loop.VARIANTS))
    return rows


def _cameras(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    rows: list[Any] = []
    for done, number in enumerate(cameras.NUMBERS, 1):
        rows += cameras.measure(model, options.threads, options.camera_seconds, (number,))
        told(done, len(cameras.NUMBERS))
    return rows


def _propagation(model: Path, options: argparse.Namespace, told: Callable[[int, int], None]) -> Any:
    rows = []
    for done, motion in enumerate(propagation.MOTIONS, 1):
        rows.append(propagation.measure(motion))
        told(done, len(propagation.MOTIONS))
    return rows


PARTS = {
    "three_questions": Part("three questions, against transformers", _three),
    "ten_questions": Part("ten questions, against transformers", _ten),
    "later_questions": Part("later questions on the same frame", _later),
    "reasoning_beside": Part("reasoning beside perception", _reasoning),
    "drafts": Part("drafts", _drafts),
    "demo": Part("the demo", _demo),
    "control_loop_ms": Part("control loop beside perception", _control),
    "ros_overhead_ms": Part("ROS overhead, two image sizes", _overhead),
    "cameras": Part("one, two and four cameras", _cameras),
    "propagation": Part("boxes between looks", _propagation),
    "memory_mb": Part("memory over many frames", _memory),
}
"""In the order in which they run; the keys are those of bench.json."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench")
    parser.add_argument("--out", type=Path, default=Path("bench_out"), help="folder of the results")
    parser.add_argument("--docs", type=Path, help="markdown file to write the table to (docs/benchmarks.md)")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these alone; the others stay as bench.json has them")
    parser.add_argument("--model", type=Path, help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, ours and theirs")
    parser.add_argument("--frames", type=int, default=24, help="frames of the comparison")
    parser.add_argument("--periods", type=int, default=300, help="of 0.2 s, of perception with and without reasoning")
    parser.add_argument("--demo-seconds", type=float, default=30.0, help="how long the demo answers")
    parser.add_argument("--answers", type=int, default=600, help="answers of the ROS measurement")
    parser.add_argument("--memory-frames", type=int, default=10_000, help="answered while memory is watched")
    parser.add_argument("--camera-seconds", type=float, default=30.0, help="for each number of cameras")
    parser.add_argument("--commands", type=int, default=900, help="commands of the control loop that are timed")
    return parser


@ends_with_its_reader
@ended_by_signals()
def main() -> int:
    """Run the benchmarks, or the one that is named; returns 0 when all that were asked for ran."""
    if sys.argv[1:2] == ["precision"]:
        from exaone_ros.bench import precision

        return precision.main(sys.argv[2:])
    if sys.argv[1:2] == ["cameras"]:
        return cameras.main(sys.argv[2:])
    options = _parser().parse_args()
    model = options.model or share_path("models/exaone4_5-tabletop-tiny")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "bench.json"
    results: dict[str, Any] = json.loads(file.read_text()) if options.only and file.exists() else {}
    results["machine"] = machine() | {"threads": options.threads}
    console = Console()
    with Progress(console=console) as progress:
        for key in options.only or PARTS:
            bar = progress.add_task(PARTS[key].title, total=1)
            results[key] = PARTS[key].measure(model, options, _teller(progress, bar))
            progress.update(bar, total=1, completed=1)
            # after each part: what was measured is kept where a later one fails
            file.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    if missing := [key for key in PARTS if key not in results]:
        console.print(f"written to {file}; no page yet: {', '.join(missing)} not measured")
        return 0
    text = markdown(results)
    (options.out / "bench.md").write_text(text)
    if options.docs:
        options.docs.write_text(text + gpu_sections(options.docs))
    console.print(text, markup=False)
    console.print(f"written to {file}")
    return 0


def _teller(progress: Progress, bar: TaskID) -> Callable[[int, int], None]:
    return lambda done, total: progress.update(bar, completed=done, total=total)


if __name__ == "__main__":
    sys.exit(main())
