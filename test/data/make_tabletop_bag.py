"""Makes test/data/tabletop_bag: a short scene as the perception node saw it, with the truth and its answers.

    python test/data/make_tabletop_bag.py [DIRECTORY]

Run in an environment with ROS 2 and MuJoCo. The simulator is stepped, so that the pictures are the same each time on
one machine; images are JPEG, and the perception node takes them by its compressed transport, so that what it answered
live is an answer to just the bytes that the bag holds. The answers are those of the checkpoint that was bundled when
the bag was made; the stamps are simulated time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from exaone_ros.nodes.scenario import RECORDED, Running, closed_loop
from exaone_ros.ros.bag import BagRecorder
from exaone_ros.ros.children import prepare_environment
from exaone_ros.ros.closed_loop import Glimpse
from exaone_ros.ros.replay import TopicRecorder
from exaone_ros.tasks import Count, Decide, Ground

TASKS = (
    Ground(name="objects"),
    Count(name="object_count", label=""),
    Decide(name="way", instruction="Is the way clear?", options=("clear", "blocked", "person")),
)
"""Those of config/tasks.yaml."""
SEED = 1_000_000_021
"""Of light and room; of the validation split."""


def record(running: Running, directory: Path) -> list[Glimpse]:
    """Play the scene and record it into a new bag; returns what was seen live.

    Two objects come, one moves, a person comes and goes, an obstacle comes and goes.
    """
    loop, simulator = running.loop, running.loop.simulator
    simulator.load_scene(SEED)
    recorder = BagRecorder(directory, RECORDED)
    listening = TopicRecorder(running.node, recorder, RECORDED)
    while len(listening.newest_ns) < len(RECORDED):  # until all topics have found their way here
        loop.ask(*TASKS)
    # Its answers would be the second ones to that image: what is recorded begins after it.
    listening.begin(after_ns=loop.look().stamp_ns)
    glimpses = [loop.look(), loop.look()]
    for change in (
        lambda: simulator.place("red cube", 0.62, 0.12),
        lambda: simulator.place("blue mug", 0.70, -0.20),
        lambda: simulator.move("red_cube", 0.60, -0.02),
        lambda: simulator.place("person", 1.28, 0.1, 3.1),
        lambda: simulator.remove("person"),
        lambda: simulator.place("obstacle", 0.48, 0.0),
        lambda: simulator.remove("obstacle"),
    ):
        change()
        glimpses.append(loop.look())
    last_ns = glimpses[-1].stamp_ns
    loop.wait(lambda: min(listening.newest_ns.values()) >= last_ns or None, "the last messages in the recorder")
    listening.close()
    recorder.close()
    return glimpses


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "tabletop_bag"
    prepare_environment()
    with tempfile.TemporaryDirectory() as logs, closed_loop(Path(logs), transport="compressed", threads=1) as running:
        seen = record(running, target)
    print(f"{len(seen)} images, {sum(file.stat().st_size for file in target.iterdir()) / 1e6:.1f} MB in {target}")
