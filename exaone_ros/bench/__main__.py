"""`python -m exaone_ros.bench`: all benchmarks in one run, a table for docs/benchmarks.md and bench.json.

`python -m exaone_ros.bench cameras`: several cameras on one model alone.
`python -m exaone_ros.bench precision`: what each precision costs in accuracy, a table for docs/tensorrt.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from exaone_ros import __version__
from exaone_ros.bench import cameras, control_loop, engine_promises, propagation, ros_overhead, three_questions
from exaone_ros.bench.table import markdown
from exaone_ros.share import share_path
from exaone_ros.training import acceptance


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else ""
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "ros": os.environ.get("ROS_DISTRO", "unknown"),
        "exaone_ros": __version__,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def main() -> int:
    """Run the benchmarks, or the one that is named; returns 0 when all of them ran."""
    if sys.argv[1:2] == ["precision"]:
        from exaone_ros.bench import precision

        return precision.main(sys.argv[2:])
    if sys.argv[1:2] == ["cameras"]:
        return cameras.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench")
    parser.add_argument("--out", type=Path, default=Path("bench_out"))
    parser.add_argument("--docs", type=Path, help="markdown file to write the table to (docs/benchmarks.md)")
    parser.add_argument("--model", type=Path, help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=24, help="frames of the comparison")
    parser.add_argument("--periods", type=int, default=300, help="of 0.2 s, of perception with and without reasoning")
    parser.add_argument("--answers", type=int, default=600, help="answers of the ROS measurement")
    parser.add_argument("--memory-frames", type=int, default=10_000)
    parser.add_argument("--camera-seconds", type=float, default=30.0, help="for each number of cameras")
    parser.add_argument("--commands", type=int, default=900, help="commands of the control loop that are timed")
    arguments = parser.parse_args()
    model = arguments.model or share_path("models/exaone4_5-tabletop-tiny")
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    with Progress(console=console) as progress:
        bar = progress.add_task("three questions, against transformers", total=arguments.frames)
        three = three_questions.measure(
            model, arguments.frames, arguments.threads, lambda done, total: progress.update(bar, completed=done)
        )
        bar = progress.add_task("ten questions, against transformers", total=arguments.frames // 2)
        ten = three_questions.measure(
            model,
            max(1, arguments.frames // 2),
            arguments.threads,
            lambda done, total: progress.update(bar, completed=done),
            number=10,
        )
        bar = progress.add_task("later questions, reasoning beside perception", total=2)
        images = engine_promises.frames(max(1, arguments.frames // 2))
        later = engine_promises.later_questions(model, images, arguments.threads)
        progress.update(bar, advance=1)
        reasoning = engine_promises.reasoning_beside(model, images, arguments.threads, arguments.periods)
        progress.update(bar, advance=1)
        bar = progress.add_task("drafts", total=1)
        drafts = acceptance.measure(model, images, acceptance.possible(model), threads=arguments.threads, looks=1)
        progress.update(bar, advance=1)
        bar = progress.add_task("ROS overhead, two image sizes", total=1)
        overhead = ros_overhead.measure(model, arguments.threads, arguments.answers)
        progress.update(bar, completed=1)
        bar = progress.add_task(f"memory over {arguments.memory_frames} frames", total=1)
        memory = ros_overhead.memory(model, arguments.threads, arguments.memory_frames)
        progress.update(bar, completed=1)
        bar = progress.add_task("control loop beside perception", total=2)
        control = []
        for beside in (True, False):
            control.append(control_loop.measure(model, arguments.threads, arguments.commands, beside=beside))
            progress.update(bar, advance=1)
        bar = progress.add_task("one, two and four cameras", total=len(cameras.NUMBERS))
        several = []
        for number in cameras.NUMBERS:
            several += cameras.measure(model, arguments.threads, arguments.camera_seconds, (number,))
            progress.update(bar, advance=1)
        bar = progress.add_task("boxes between looks", total=len(propagation.MOTIONS))
        between = []
        for motion in propagation.MOTIONS:
            between.append(propagation.measure(motion))
            progress.update(bar, advance=1)
    results = {
        "three_questions": three,
        "ten_questions": ten,
        "later_questions": later,
        "reasoning_beside": reasoning,
        "drafts": {name: asdict(worth) for name, worth in drafts.items()},
        "control_loop_ms": control,
        "ros_overhead_ms": overhead,
        "cameras": several,
        "propagation": between,
        "memory_mb": memory,
        "machine": machine() | {"threads": arguments.threads},
    }
    (arguments.out / "bench.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    text = markdown(results)
    (arguments.out / "bench.md").write_text(text)
    if arguments.docs:
        arguments.docs.write_text(text)
    console.print(text, markup=False)
    console.print(f"written to {arguments.out}/bench.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
