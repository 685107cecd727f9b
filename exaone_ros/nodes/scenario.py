"""Closed-loop scenarios: a simulated robot and the perception node tell a story and are judged by their topics.

    python -m exaone_ros.nodes.scenario            # all of them
    python -m exaone_ros.nodes.scenario way find

Three processes over DDS: simulator (stepped), perception with the bundled checkpoint, and this one. The exit code is 0
where every story went as it should.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.node import Node

from exaone_ros.errors import ExaoneError
from exaone_ros.nodes.scenarios import STORIES
from exaone_ros.pipes import ended_by_signals, ends_with_its_reader
from exaone_ros.ros.children import Child, prepare_environment
from exaone_ros.ros.closed_loop import ClosedLoop, LoopError
from exaone_ros.ros.listen import spinning

CAMERA_HZ = 10.0
RECORDED = {
    "/head_camera/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
    "/head_camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "/ground_truth/detections": "vision_msgs/msg/Detection2DArray",
    "/exaone/detections": "vision_msgs/msg/Detection2DArray",
    "/exaone/counts": "exaone_interfaces/msg/ObjectCounts",
    "/exaone/decision": "exaone_interfaces/msg/Decision",
}
"""What a bag of a scenario holds: all that a replay needs, and what to compare it with."""


@ends_with_its_reader
@ended_by_signals()
def main(argv: Sequence[str] | None = None) -> int:
    """Run stories; returns 0 when all went as they should."""
    parser = argparse.ArgumentParser(prog="scenario", description=__doc__.split("\n\n")[0])
    parser.add_argument("stories", nargs="*", metavar="STORY", help=f"of {', '.join(STORIES)}; none = all")
    parser.add_argument("--model", default="", help="checkpoint directory (default: the bundled one)")
    parser.add_argument("--threads", type=int, default=0, help="of the engine; 0 = the backend's default")
    parser.add_argument("--logs", type=Path, help="directory for the logs of the nodes (default: a temporary one)")
    parser.add_argument("--record", type=Path, help="new directory for a bag (MCAP) of the camera, truth and answers")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.stories if name not in STORIES]
    if unknown:
        parser.error(f"there is no story {unknown[0]!r}; expected some of {', '.join(STORIES)}")
    prepare_environment()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        logs: Path = arguments.logs or Path(folder)
        logs.mkdir(parents=True, exist_ok=True)
        # What perception sees is to be what the bag holds.
        transport = "compressed" if arguments.record else "raw"
        try:
            with (
                closed_loop(logs, model=arguments.model, threads=arguments.threads, transport=transport) as running,
                recording(running.node, arguments.record),
            ):
                for name in arguments.stories or STORIES:
                    print(f"{name}: {(STORIES[name].__doc__ or '').splitlines()[0]}", flush=True)
                    try:
                        for line in STORIES[name](running.loop).lines():
                            print(f"  {line}", flush=True)
                    except LoopError as error:
                        failed.append(name)
                        print(f"  FAILED: {error}", flush=True)
        except (ExaoneError, TimeoutError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:  # the nodes have been ended on the way
            print("interrupted", file=sys.stderr)
            return 1
    print(f"failed: {', '.join(failed)}" if failed else "all went as they should")
    return 1 if failed else 0


@contextmanager
def recording(node: Node, directory: Path | None) -> Iterator[None]:
    """Record `RECORDED` into a new bag inside the `with` block; nothing without a directory."""
    if directory is None:
        yield
        return
    from exaone_ros.ros.bag import BagRecorder
    from exaone_ros.ros.replay import TopicRecorder

    with BagRecorder(directory, RECORDED) as recorder:
        listening = TopicRecorder(node, recorder, RECORDED)
        listening.begin(after_ns=0)
        try:
            yield
        finally:
            listening.close()


@dataclass(frozen=True)
class Running:
    """Attributes: who looks at both nodes; the node that it looks through; what ends the simulator before the rest."""

    loop: ClosedLoop
    node: Node
    end_simulator: Callable[[], None]


@contextmanager
def closed_loop(
    logs: Path, *, model: str = "", threads: int = 0, transport: str = "raw", timeout_s: float = 120.0
) -> Iterator[Running]:
    """A stepped simulator and a perception node as processes, and the one who looks at them.

    Args:
        logs: directory for the logs of both.
        model: checkpoint directory; empty = the bundled one.
        threads: of the engine.
        transport: by which perception takes images, raw or compressed.
        timeout_s: patience with each answer, and with the start.
    """
    simulated = {
        "stepped": "true", "rate_hz": CAMERA_HZ, "shadows": "false", "max_objects": 0, "person_share": 0.0,
        "obstacle_share": 0.0,
    }  # fmt: skip
    perceived = {
        "use_sim_time": "true", "image_topic": "/head_camera/image_raw", "image_transport": transport,
        "threads": threads,
    }  # fmt: skip
    perceived |= {"model": Path(model).resolve()} if model else {}
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        node = rclpy.create_node("scenario", context=context)
        with (
            spinning(node),
            Child("simulator", ros_arguments(simulated), logs / "simulator.log") as simulator,
            Child("perception", ros_arguments(perceived, "__ns:=/exaone"), logs / "perception.log") as perception,
        ):
            needed = {simulator, perception}

            def check() -> None:
                for child in needed:
                    if not child.running:
                        raise ExaoneError(f"the {child.node} has ended; its log ends with:\n{child.tail()}")

            def end_simulator() -> None:
                needed.discard(simulator)
                simulator.stop()

            loop = ClosedLoop(node, camera_period_s=1 / CAMERA_HZ, timeout_s=timeout_s, check=check)
            yield Running(loop, node, end_simulator)
    finally:
        rclpy.try_shutdown(context=context)


def ros_arguments(parameters: Mapping[str, object], *remaps: str) -> list[str]:
    """What stands on a node's command line."""
    arguments = ["--ros-args"]
    for remap in remaps:
        arguments += ["-r", remap]
    for key, value in parameters.items():
        arguments += ["-p", f"{key}:={value}"]
    return arguments


if __name__ == "__main__":
    sys.exit(main())
