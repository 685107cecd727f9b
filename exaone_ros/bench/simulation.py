"""How many times faster than real time the stepped world runs, without rendering and with it.

    python -m exaone_ros.bench.simulation

`nodes.realtime` measures the node in real time. The figures are of the machine and of what else runs on it: name both
where they are written down.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.sim.live import LiveSettings
from exaone_ros.sim.sampling import SceneOptions
from exaone_ros.sim.stepped import SteppedSimulation
from exaone_ros.sim.world import STEP_S, HeadMotion

CALL_STEPS = 50
"""Steps of one call, as of a test that steps by the period of a 10 Hz camera."""
WARM_UP_S = 2.0


def stepped(seconds: float, camera: bool) -> dict[str, Any]:
    """Simulated time per wall time of a stepped world: eight objects, the head sweeping, joint states at 50 Hz.

    Args:
        seconds: simulated.
        camera: also render 640x480 at 10 Hz, with labels and shadows.
    """
    settings = LiveSettings(
        rate_hz=10.0,
        camera=camera,
        options=SceneOptions(objects=(8, 8), camera_jitter=0.0),
        head_motion=HeadMotion(0.25, 0.1, 4.0),
    )
    simulation = SteppedSimulation(settings, on_frame=lambda _: None, on_joints=lambda *_: None)
    simulation.start()
    try:
        simulation.advance(round(WARM_UP_S / STEP_S))
        calls = max(1, round(seconds / STEP_S / CALL_STEPS))
        started_s = time.monotonic()
        images = sum(simulation.advance(CALL_STEPS).images for _ in range(calls))
        wall_s = time.monotonic() - started_s
    finally:
        simulation.stop()
    simulated_s = calls * CALL_STEPS * STEP_S
    return {
        "what": "stepped, 640x480 at 10 Hz" if camera else "stepped, no rendering",
        "times_real_time": round(simulated_s / wall_s, 2),
        "simulated_s": round(simulated_s, 2),
        "wall_s": round(wall_s, 2),
        "images": images,
    }


@ends_with_its_reader
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one JSON line for each figure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.bench.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated")
    options = parser.parse_args(arguments)
    os.environ.setdefault("MUJOCO_GL", "egl")
    for camera in (False, True):
        print(json.dumps(stepped(options.seconds, camera)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
