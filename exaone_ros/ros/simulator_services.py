"""The services of a simulator: step, reset, lay the table by seed, place, move, remove."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from std_srvs.srv import Trigger

from exaone_interfaces.srv import LoadScene, MoveObject, PlaceObject, RemoveObject, StepSimulation
from exaone_ros.errors import SimulationError
from exaone_ros.ros.messages import ns_to_time
from exaone_ros.ros.simulation import place_from_message, steps_from_message
from exaone_ros.sim.live import LiveSimulation
from exaone_ros.sim.stepped import SteppedSimulation


class SimulatorServices:
    """Offers the services of one simulation; their callbacks run in the executor's thread.

    What is refused changes nothing, and the response says why. What breaks for another reason than the request is
    handed on, and the caller gets no response.

    Args:
        node: whose services they are.
        simulation: that they change; only a stepped one can be stepped.
        failed: called with an error that is not the caller's fault.
    """

    def __init__(
        self, node: Node, simulation: LiveSimulation | SteppedSimulation, failed: Callable[[BaseException], None]
    ) -> None:
        self._node, self._simulation, self._failed = node, simulation, failed
        for kind, name, answer in (
            (StepSimulation, "step", self._step),
            (Trigger, "reset", self._reset),
            (LoadScene, "load_scene", self._load_scene),
            (PlaceObject, "place_object", self._place),
            (MoveObject, "move_object", self._move),
            (RemoveObject, "remove_object", self._remove),
        ):
            node.create_service(kind, f"~/{name}", self._guarded(name, answer))

    def _guarded(self, name: str, answer: Callable[[Any, Any], None]) -> Callable[[Any, Any], Any]:
        def callback(request: Any, response: Any) -> Any:
            try:
                answer(request, response)
                response.success = True
            except SimulationError as error:
                response.success, response.message = False, str(error)
                self._node.get_logger().warning(f"{name} refused: {error}")
            except Exception as error:
                self._failed(error)
                raise
            return response

        return callback

    def _step(self, request: StepSimulation.Request, response: StepSimulation.Response) -> None:
        if not isinstance(self._simulation, SteppedSimulation):
            raise SimulationError("the simulation runs in real time; start it with stepped:=true to step it")
        response.stamp = ns_to_time(self._simulation.stamp_ns)  # where nothing moves
        done = self._simulation.advance(steps_from_message(request.duration, request.steps))
        response.stamp, response.images = ns_to_time(done.stamp_ns), done.images

    def _reset(self, _request: Trigger.Request, response: Trigger.Response) -> None:
        self._simulation.reset()
        response.message = f"begun anew with {', '.join(self._simulation.world.names) or 'an empty table'}"

    def _load_scene(self, request: LoadScene.Request, response: LoadScene.Response) -> None:
        self._simulation.world.set_scene(self._simulation.settings.scene_of_seed(request.seed))
        response.names = list(self._simulation.world.names)

    def _place(self, request: PlaceObject.Request, response: PlaceObject.Response) -> None:
        place = place_from_message(request.pose)
        response.name = self._simulation.world.place(request.class_id, place, request.name)

    def _move(self, request: MoveObject.Request, _response: MoveObject.Response) -> None:
        self._simulation.world.move(request.name, place_from_message(request.pose))

    def _remove(self, request: RemoveObject.Request, _response: RemoveObject.Response) -> None:
        self._simulation.world.remove(request.name)
