"""The perception node as a process with an engine that needs no model; options stand before --ros-args."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fake_engine import FakeEngine, HungEngine

from exaone_ros.errors import CheckpointError
from exaone_ros.nodes.perception import Perception
from exaone_ros.ros import spin
from exaone_ros.ros.perception_settings import Settings

parser = argparse.ArgumentParser()
parser.add_argument("--delay-s", type=float, default=0.0, help="each answer takes this long")
parser.add_argument("--failures", type=int, default=0, help="that many looks fail at first")
parser.add_argument("--dies-after", type=int, default=0, help="looks after which the first engine fails for ever")
parser.add_argument("--hangs", action="store_true", help="the engine says that it hangs")
parser.add_argument("--load-s", type=float, default=0.0, help="opening the engine takes this long")
parser.add_argument("--end-within-s", type=float, default=30.0, help="patience with an end in order")
options, _ = parser.parse_known_args(sys.argv[1 : sys.argv.index("--ros-args")])


def open_engine(settings: Settings) -> Any:
    if settings.model.name == "broken":
        raise CheckpointError(f"{settings.model / 'config.json'} is missing")
    if settings.model.name == "buggy":
        raise ZeroDivisionError("a bug in the engine")
    print("opening", flush=True)
    time.sleep(options.load_s)
    if options.hangs:
        return HungEngine()
    dies_after = options.dies_after or float("inf")
    options.dies_after = 0  # the next one is sound
    return FakeEngine(delay_s=options.delay_s, failures=options.failures, dies_after=dies_after)


spin.END_WITHIN_S = options.end_within_s
spin.run_node(lambda: Perception(open_engine))
