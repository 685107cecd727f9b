"""The control loop beside perception: how even its ticks are, and how soon an emergency stop holds the robot.

Simulator, perception on every frame that its engine can take, and the action head at 30 Hz run as processes of their
own; a fourth is the operator and the robot's controller in one, and times what reaches it. The head is the sine.

`python -m exaone_ros.bench.control_loop` measures this alone: as shipped, without real-time priority, and without
perception.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from exaone_ros.bench.processes import domain_of_its_own, node_arguments
from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ended_by_signals, ends_with_its_reader
from exaone_ros.ros.children import Child
from exaone_ros.share import share_path
from exaone_ros.view.tally import percentiles

FPS = 30.0
NAMESPACE = "/bench"
VARIANTS: tuple[dict[str, Any], ...] = ({"beside": True}, {"beside": True, "realtime": False}, {"beside": False})
"""Arguments of `measure`: as shipped; without real-time priority; without perception."""
PATIENCE = {
    "state_timeout_s": 5.0, "heartbeat_timeout_s": 5.0, "head_timeout_s": 10.0, "starve_timeout_s": 10.0,
    "max_observation_age_s": 5.0, "max_lag_s": 5.0,
}  # fmt: skip
"""A goal that ends because the machine was busy would end the measurement; how late things are is what is measured."""
TASKS = """\
objects: {kind: ground, classes: []}
count: {kind: count, label: ""}
way: {kind: decide, instruction: "Is the way clear?", options: [clear, blocked, person]}
"""


def measure(
    model: Path,
    threads: int,
    commands: int = 900,
    stops: int = 20,
    timeout_s: float = 180.0,
    beside: bool = True,
    realtime: bool = True,
) -> dict[str, Any]:
    """Figures of the control loop, in milliseconds.

    Args:
        model: checkpoint of the perception node.
        threads: of its engine.
        commands: whose arrival is timed.
        stops: how often the emergency stop is pressed.
        timeout_s: for each wait of the probe.
        beside: False leaves perception out, for comparison.
        realtime: False asks for no real-time priority of the loop, for comparison.

    Raises:
        ExaoneError: a process ended early or took too long; the message holds the logs' tails.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "tasks.yaml").write_text(TASKS)
        nodes: dict[str, dict[str, Any]] = {"simulator": {"world": "tabletop", "rate_hz": 10.0, "shadows": "false"}}
        if beside:
            nodes["perception"] = {
                "model": model, "threads": threads, "tasks_file": folder / "tasks.yaml", "max_age_s": 10.0,
                "image_topic": "head_camera/image_raw",
            }  # fmt: skip
        nodes["action_head"] = {"head": "sine", "sine_joint": "right_elbow", "sine_frequency_hz": 0.5, **PATIENCE}
        if not realtime:
            nodes["action_head"]["loop_priority"] = 0
        environment = domain_of_its_own(5)
        children = [
            stack.enter_context(Child(node, node_arguments(NAMESPACE, values), folder / f"{node}.log", environment))
            for node, values in nodes.items()
        ]
        options = ["--namespace", NAMESPACE, "--commands", str(commands), "--stops", str(stops)]
        options += ["--timeout", str(timeout_s)]
        probe = stack.enter_context(Child("arm_probe", options, folder / "probe.log", environment))
        if probe.process.wait() != 0:
            logs = "\n".join(f"--- {child.node}\n{child.tail()}" for child in [probe, *children])
            raise ExaoneError(f"the control loop could not be measured; the logs end with:\n{logs}")
        return figures(json.loads(probe.tail(1))) | {"perception_beside": beside, "realtime_asked": realtime}


def figures(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What the probe noted, as percentiles in milliseconds; pure.

    `loop_jitter_p95` is the control loop's own: the worst of the p95s over 10 s each that its diagnostics gave; NaN
    where it gave none. `arrival_jitter` is the commands' at their receiver, so that DDS is in it.
    """
    period_ms = 1e3 / FPS
    between_ms = np.diff(np.array(measured["arrivals_s"])) * 1e3
    estop_ms = np.array(measured["estop_to_hold_s"]) * 1e3
    return {
        "period_ms": round(period_ms, 2),
        "loop_jitter_p95": round(max(measured["loop_jitter_p95_ms"], default=float("nan")), 2),
        "arrival_jitter": percentiles(np.abs(between_ms - period_ms)),
        "estop_to_hold": percentiles(estop_ms) | {"max": round(float(estop_ms.max(initial=0.0)), 2)},
        "scheduling": measured["scheduling"],
        "within_one_period": int((estop_ms <= period_ms).sum()),
        "commands": len(measured["arrivals_s"]),
        "stops": len(estop_ms),
    }


@ends_with_its_reader
@ended_by_signals()
def main() -> int:
    """Measure every variant; prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench.control_loop")
    parser.add_argument("--model", type=Path, help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--commands", type=int, default=900)
    parser.add_argument("--stops", type=int, default=20)
    options = parser.parse_args()
    model = options.model or share_path("models/exaone4_5-tabletop-tiny")
    for variant in VARIANTS:
        result = measure(model, options.threads, options.commands, options.stops, **variant)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
