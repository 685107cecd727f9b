"""The simulator's services as plain calls: for tests, demos and whoever scripts a scene."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion
from rclpy.node import Node
from std_srvs.srv import Trigger

from exaone_interfaces.srv import LoadScene, MoveObject, PlaceObject, RemoveObject, StepSimulation
from exaone_ros.errors import SimulationError
from exaone_ros.ros.messages import time_to_ns


@dataclass(frozen=True)
class Stepped:
    """Attributes: simulated time at which the world stands now; how many images were published on the way."""

    stamp_ns: int
    images: int


class SimulatorClient:
    """Calls a simulator. Not to be used in the thread that spins the node.

    Args:
        node: spun by somebody else meanwhile (`ros.listen.spinning`).
        simulator: fully qualified name of the simulator node.
        timeout_s: patience with each call, and with the simulator's start.
    """

    def __init__(self, node: Node, simulator: str = "/simulator", timeout_s: float = 60.0) -> None:
        self._simulator, self._timeout_s = simulator, timeout_s
        kinds = {
            "step": StepSimulation,
            "reset": Trigger,
            "load_scene": LoadScene,
            "place_object": PlaceObject,
            "move_object": MoveObject,
            "remove_object": RemoveObject,
        }
        self._clients = {name: node.create_client(kind, f"{simulator}/{name}") for name, kind in kinds.items()}

    def step(self, duration_s: float = 0.0, steps: int = 0) -> Stepped:
        """Go on by a duration or by steps of physics.

        Raises:
            SimulationError: refused; the message says why.
            TimeoutError: no simulator, or no answer in time. All methods raise these two.
        """
        sec, nanosec = divmod(round(duration_s * 1e9), 1_000_000_000)
        response = self._call("step", StepSimulation.Request(duration=Duration(sec=sec, nanosec=nanosec), steps=steps))
        return Stepped(time_to_ns(response.stamp), int(response.images))

    def reset(self) -> None:
        """First scene, robot at home, time from the start."""
        self._call("reset", Trigger.Request())

    def load_scene(self, seed: int) -> list[str]:
        """Lay the table that `seed` stands for; returns the names of everything in the scene."""
        return list(self._call("load_scene", LoadScene.Request(seed=seed)).names)

    def place(self, class_id: str, x_m: float, y_m: float, yaw_rad: float = 0.0, name: str = "") -> str:
        """Put something new into the scene; returns its name."""
        request = PlaceObject.Request(class_id=class_id, name=name, pose=_pose(x_m, y_m, yaw_rad))
        return str(self._call("place_object", request).name)

    def move(self, name: str, x_m: float, y_m: float, yaw_rad: float = 0.0) -> None:
        """Put something somewhere else."""
        self._call("move_object", MoveObject.Request(name=name, pose=_pose(x_m, y_m, yaw_rad)))

    def remove(self, name: str) -> None:
        """Take something away."""
        self._call("remove_object", RemoveObject.Request(name=name))

    def _call(self, name: str, request: Any) -> Any:
        client = self._clients[name]
        if not client.wait_for_service(self._timeout_s):
            raise TimeoutError(f"there is no service {self._simulator}/{name} after {self._timeout_s:g} s")
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(self._timeout_s):
            client.remove_pending_request(future)
            raise TimeoutError(f"{self._simulator}/{name} has not answered within {self._timeout_s:g} s")
        response = future.result()
        if not response.success:
            raise SimulationError(f"{self._simulator}/{name}: {response.message}")
        return response


def _pose(x_m: float, y_m: float, yaw_rad: float) -> Pose:
    turn = Quaternion(z=math.sin(yaw_rad / 2), w=math.cos(yaw_rad / 2))
    return Pose(position=Point(x=float(x_m), y=float(y_m)), orientation=turn)
