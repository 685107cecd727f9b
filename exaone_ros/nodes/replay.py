"""Play the camera of a bag to nodes that run with use_sim_time.

    python -m exaone_ros.nodes.replay test/data/tabletop_bag
    python -m exaone_ros.nodes.perception --ros-args -r __ns:=/exaone -p use_sim_time:=true \\
        -p image_topic:=/head_camera/image_raw -p image_transport:=compressed

Messages keep their stamps; /clock follows them, at the pace of the recording times ``--rate``. What follows
``--ros-args`` is for ROS: remappings, and overrides of QoS (docs/parameters.md).
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.ros.listen import spinning
from exaone_ros.ros.replay import BagPlayer
from exaone_ros.ros.spin import reason_of_rcl

CAMERA_TOPICS = ("/head_camera/image_raw/compressed", "/head_camera/camera_info")
LEAD_IN_S = 2.0
"""Time for those who listen to find all of the player's topics, /clock too."""
CLOCK_LEAD_IN_S = 0.2
"""From the first time on /clock to the first image: the two come by different topics."""


@ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Play a bag once; returns 0 when it was played to its end."""
    parser = argparse.ArgumentParser(prog="replay", description=__doc__.split("\n\n")[0])
    parser.add_argument("bag", type=Path, help="directory of the bag")
    parser.add_argument("--topics", nargs="+", default=CAMERA_TOPICS, help="to play (default: the head camera's)")
    parser.add_argument("--rate", type=float, default=1.0, help="times the recorded pace")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds at most until somebody listens")
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = parser.parse_args(remove_ros_args(given))
    except RuntimeError as error:
        parser.error(reason_of_rcl(error))
    if not (math.isfinite(arguments.rate) and 0.01 <= arguments.rate <= 100):
        parser.error(f"--rate is {arguments.rate}; expected 0.01 to 100")
    # rclpy's own handler would take the context down beside whatever is being published: an error in place of an end.
    try:
        rclpy.init(args=given, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # a parameter file that is not there
        parser.error(reason_of_rcl(error))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        node = rclpy.create_node("replay", automatically_declare_parameters_from_overrides=True)
        with spinning(node):
            player = BagPlayer(node, arguments.bag, arguments.topics)
            print(f"{len(player.moments)} moments of {', '.join(arguments.topics)}", flush=True)
            until_s = time.monotonic() + arguments.wait
            while not player.heard and time.monotonic() < until_s:
                threading.Event().wait(0.1)
            if not player.heard:
                print(f"nobody has listened for {arguments.wait:g} s; played all the same", file=sys.stderr)
            threading.Event().wait(LEAD_IN_S)
            if player.moments:  # whoever gets an image before the time would have to drop it
                player.publish(player.moments[0][0], ())
                threading.Event().wait(CLOCK_LEAD_IN_S)
            started_s, played_s = time.monotonic(), 0.0

            def pace(_time_ns: int, until_next_ns: int) -> bool:
                nonlocal played_s
                played_s += until_next_ns * 1e-9 / arguments.rate
                time.sleep(max(0.0, started_s + played_s - time.monotonic()))
                return True

            for _ in player.play(pace):
                pass
    except ExaoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
