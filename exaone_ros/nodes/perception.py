"""The perception node: camera images in; detections, counts, decisions and answers in words out.

Threads: the executor's takes images, services, goals and transitions; the worker's asks and publishes (`ros.worker`);
the engine's answers; one more publishes diagnostics and the heartbeat.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecyclePublisher
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Answer, Decision, ObjectCounts, Tasks
from exaone_interfaces.srv import GetTasks, SetTasks
from exaone_ros.errors import EngineError, TaskError
from exaone_ros.ros import messages, qos
from exaone_ros.ros.ask_server import AskServer
from exaone_ros.ros.asking import Asker
from exaone_ros.ros.bridge import pixel_reader
from exaone_ros.ros.camera import FRAMES_KEPT, Camera
from exaone_ros.ros.diagnostics import CameraReport, DiagnosticsThread, NodeReport, statuses
from exaone_ros.ros.engine_keeper import EngineKeeper
from exaone_ros.ros.engine_opener import open_engine
from exaone_ros.ros.freshness import Freshness
from exaone_ros.ros.health import Health, judge, judge_camera, judge_engine, judge_idle
from exaone_ros.ros.heartbeat import Heartbeat
from exaone_ros.ros.image import compressed_image_to_rgb, image_to_rgb
from exaone_ros.ros.lifecycle import ManagedNode
from exaone_ros.ros.look import Publication
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.once import OnceLog
from exaone_ros.ros.parameters import ParameterSet
from exaone_ros.ros.perception_settings import PARAMETERS, CameraSettings, Settings, parameters_of_cameras
from exaone_ros.ros.pixels import PixelReader
from exaone_ros.ros.remapping import compressed_topic
from exaone_ros.ros.schedule import TaskBoard, check_standing_tasks
from exaone_ros.ros.spin import NodeCannotGoOn, run_node
from exaone_ros.ros.worker import WORKER, PerceptionWorker
from exaone_ros.tasks import StandingTask
from exaone_ros.tasks.base import shown

STOP_WITHIN_S = 5.0
"""How long a cleanup waits for the engine to come back from the step it is at."""

ANSWERS = {"detections": Detection2DArray, "counts": ObjectCounts, "decision": Decision, "answer": Answer}
"""The topics of each camera."""

IMAGE_TYPES = {False: "sensor_msgs/msg/Image", True: "sensor_msgs/msg/CompressedImage"}
"""Compressed or not -> what its images are, as the graph of nodes has it."""


class Perception(ManagedNode):
    """Answers standing tasks and questions on the newest images of one or more cameras.

    Args:
        engine_opener: makes the engine (`engine_keeper.AskedEngine`) at configure, and again where it failed.
    """

    def __init__(self, engine_opener: Callable[[Settings], Any] = open_engine) -> None:
        super().__init__("perception")
        self._engine_opener = engine_opener
        self._keeper: EngineKeeper | None = None
        self._settings: Settings | None = None
        self._board: TaskBoard | None = None
        self._worker: PerceptionWorker | None = None
        self._asker: Asker | None = None
        self._cameras: dict[str, Camera] = {}
        self._subscriptions_of_images: dict[str, Subscription] = {}
        self._read: PixelReader | None = None
        self._topics: dict[str, LifecyclePublisher] = {}
        self._overridable = qos.OverridableTopics(self)
        self._tasks_topic: Publisher | None = None
        self._meter = Meter()
        self._once = OnceLog(self.get_logger())
        self._active_since_s = 0.0
        self._parameters_kept = ParameterSet(self, PARAMETERS, locked=lambda: self.state != "unconfigured")
        self._declare_cameras()
        if hasattr(self, "add_post_set_parameters_callback"):  # from Iron on; before, they are declared at configure
            self.add_post_set_parameters_callback(self._on_parameters)
        self.create_service(SetTasks, "set_tasks", self._set_tasks)
        self.create_service(GetTasks, "get_tasks", self._get_tasks)
        self._ask_server = AskServer(self, lambda: self._asker, self._ask_defaults)
        self._heartbeat = Heartbeat(self, self._report)
        self._diagnostics = DiagnosticsThread(self, self._statuses, self._heartbeat.beat)

    @property
    def autostart(self) -> bool:
        return bool(self._parameters_kept["autostart"])

    def load(self) -> None:
        """Check the parameters and open the engine."""
        self._declare_cameras()
        settings = Settings.from_values(self._parameters_kept.values())
        cameras = tuple(
            replace(camera, topic=compressed_topic(self, camera.topic)) if camera.compressed else camera
            for camera in settings.cameras
        )
        self._settings = settings = replace(settings, cameras=cameras)
        self._board = TaskBoard(settings.tasks, settings.camera_names)
        converter, self._read = pixel_reader(settings.image_converter)
        self._check_qos_overrides(settings)
        self._meter, self._once = Meter(), OnceLog(self.get_logger())
        started_s = time.monotonic()
        self._keeper = EngineKeeper(
            lambda: self._engine_opener(settings),
            lambda: int(self._parameters_kept["engine_restart_after"]),
            self._meter,
            self._once,
        )
        self._keeper.on_hang = self._on_hang
        for camera in settings.cameras:
            for name, kind in ANSWERS.items():
                topic = camera.prefix + name
                self._topics[topic] = self._overridable.publisher(kind, topic, qos.answers())
        self._tasks_topic = self.create_publisher(Tasks, "tasks", qos.latched())
        self._say_tasks()
        several = f"{len(settings.cameras)} cameras; " if len(settings.cameras) > 1 else ""
        self.get_logger().info(
            f"{settings.computed_by} opened in {time.monotonic() - started_s:.1f} s; "
            f"{several}{len(settings.tasks)} tasks; images are converted by {converter}"
        )

    def start(self) -> None:
        """Begin to look: a new worker, then the subscriptions that feed it."""
        assert self._settings is not None and self._board is not None and self._keeper is not None
        settings = self._settings
        self._meter = self._keeper.meter = Meter()
        self._active_since_s = time.monotonic()
        self._cameras = {camera.name: self._camera(camera) for camera in settings.cameras}
        parameters = self._parameters_kept
        self._asker = Asker(
            self._cameras,
            self._keeper,
            self._now_ns,
            most=lambda: int(parameters["max_asks"]),
            tolerance_ns=lambda: round(parameters["sync_tolerance_s"] * 1e9),
        )
        self._worker = PerceptionWorker(
            tuple(self._cameras.values()),
            self._board,
            self._keeper,
            freshness=self._freshness,
            now_ns=self._now_ns,
            publish=self._publish,
            meter=self._meter,
            log=self._once,
            asker=self._asker,
            real_time=not self.get_parameter("use_sim_time").value,
            concurrent_looks=settings.concurrent_looks,
        )
        self._worker.start()
        for camera in settings.cameras:
            self._subscriptions_of_images[camera.name] = self._overridable.subscription(
                CompressedImage if camera.compressed else Image,
                camera.topic,
                partial(self._on_image, self._cameras[camera.name]),
                qos.newest_image(camera.reliability),
                event_callbacks=SubscriptionEventCallbacks(
                    incompatible_qos=partial(self._on_incompatible_qos, self._cameras[camera.name])
                ),
            )

        images = ", ".join(self.resolve_topic_name(camera.topic) for camera in settings.cameras)
        answers = ", ".join(
            self.resolve_topic_name(camera.prefix + name) for camera in settings.cameras[:1] for name in ANSWERS
        )
        more = " and so on for each camera" if len(settings.cameras) > 1 else ""
        self.get_logger().info(f"looking at {images}; answers come on {answers}{more}")

    def stop(self) -> None:
        """End the subscriptions and the worker; open questions end as `inactive`.

        Raises:
            EngineError: the worker does not end.
        """
        for subscription in self._subscriptions_of_images.values():
            self.destroy_subscription(subscription)
        self._subscriptions_of_images = {}
        self._asker = None
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(STOP_WITHIN_S):
            raise EngineError(f"the worker has not ended within {STOP_WITHIN_S:g} s; is a publisher stuck?")

    def free(self) -> None:
        """Close the engine and the topics.

        Raises:
            EngineError: the engine does not come back from the step it is at.
        """
        keeper, self._keeper = self._keeper, None
        for publisher in self._topics.values():
            self.destroy_lifecycle_publisher(publisher)
        self._topics = {}
        if self._tasks_topic is not None:
            self.destroy_publisher(self._tasks_topic)
            self._tasks_topic = None
        self._settings, self._board, self._read, self._cameras = None, None, None, {}
        if keeper is not None and not keeper.close(STOP_WITHIN_S):
            raise EngineError(f"the engine has not come back from its step within {STOP_WITHIN_S:g} s")

    def end(self) -> None:
        """Before the process ends: everything, in order."""
        super().end()
        self._diagnostics.stop()
        self._ask_server.destroy()

    def _camera(self, settings: CameraSettings) -> Camera:
        assert self._read is not None and self._settings is not None
        read = self._read
        return Camera(
            settings.name,
            compressed_image_to_rgb if settings.compressed else lambda message: image_to_rgb(message, read),
            self._freshness,
            self._now_ns,
            Meter(),
            self._once,
            kept=1 if len(self._settings.cameras) == 1 else FRAMES_KEPT,
        )

    # --- parameters

    def _declare_cameras(self) -> None:
        self._parameters_kept.declare_more(parameters_of_cameras(self._parameters_kept["cameras"]))

    def _on_parameters(self, changed: list[Any]) -> None:
        if any(parameter.name == "cameras" for parameter in changed):
            self._declare_cameras()

    def _check_qos_overrides(self, settings: Settings) -> None:
        answers = [(camera.prefix + name, "publisher") for camera in settings.cameras for name in ANSWERS]
        images = [(camera.topic, "subscription") for camera in settings.cameras]
        qos.check_overrides(self, [(self.resolve_topic_name(topic), entity) for topic, entity in (*answers, *images)])

    def _freshness(self) -> Freshness:
        max_age_s, tolerance_s = self._parameters_kept["max_age_s"], self._parameters_kept["stamp_tolerance_s"]
        return Freshness(round(max_age_s * 1e9), round(tolerance_s * 1e9))

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    # --- images in, answers out

    def _on_image(self, camera: Camera, message: Image | CompressedImage) -> None:
        """Hand the image to its camera; the executor's thread does nothing else with it."""
        camera.offer(message, messages.time_to_ns(message.header.stamp), message.header.frame_id)

    def _on_incompatible_qos(self, camera: Camera, event: Any) -> None:
        camera.meter.count("qos.incompatible", max(event.total_count_change, 1))
        self._once.warning(
            f"{camera.name}.qos",
            f"{camera.label}: a publisher of images offers a QoS that this subscription cannot use; set reliability to "
            "best_effort",
        )

    def _publish(self, publication: Publication) -> None:
        """Called in the worker's thread with answers that are fresh."""
        prefix = f"{publication.camera}/" if publication.camera else ""
        detections = messages.detections_message(publication)
        if detections is not None:
            self._topics[prefix + "detections"].publish(detections)
        counts = messages.counts_message(publication)
        if counts is not None:
            self._topics[prefix + "counts"].publish(counts)
        for decision in messages.decision_messages(publication):
            self._topics[prefix + "decision"].publish(decision)
        for answer in messages.answer_messages(publication):
            self._topics[prefix + "answer"].publish(answer)

    def _on_hang(self, what: str) -> None:
        """Called in the worker's thread: nothing in this process can help."""
        executor = self.executor
        if self._parameters_kept["end_on_hang"] and executor is not None:

            def give_up() -> None:
                raise NodeCannotGoOn(f"the engine hangs: {what}")

            executor.create_task(give_up)

    def _ask_defaults(self) -> tuple[str, float]:
        first = self._settings.camera_names[0] if self._settings is not None else ""
        return first, float(self._parameters_kept["ask_deadline_s"])

    # --- tasks

    def _set_tasks(self, request: SetTasks.Request, response: SetTasks.Response) -> SetTasks.Response:
        """Replace all tasks or none."""
        tasks: list[StandingTask] = []
        problems: list[str] = []
        for message in request.tasks:
            try:
                tasks += messages.tasks_from_message(message)
            except TaskError as error:
                problems.append(str(error))
        names = Counter(message.name for message in request.tasks)
        problems += [
            f"task {shown(name)} is there {n} times; each name may stand once" for name, n in names.items() if n > 1
        ]
        if self._board is None or self._settings is None:
            problems.append(f"the node is {self.state}; configure it first")
        elif not problems:
            problems = check_standing_tasks(tasks, self._settings.camera_names)
            if not problems:
                self._board.replace(tasks)
                self._say_tasks()
                self.get_logger().info(f"{len(tasks)} tasks from now on")
        response.success, response.problems = not problems, problems
        return response

    def _say_tasks(self) -> None:
        if self._tasks_topic is not None and self._board is not None:
            tasks = messages.tasks_to_messages(self._board.tasks)
            self._tasks_topic.publish(Tasks(stamp=messages.ns_to_time(self._now_ns()), tasks=tasks))

    def _get_tasks(self, _request: GetTasks.Request, response: GetTasks.Response) -> GetTasks.Response:
        if self._board is not None:
            response.tasks = messages.tasks_to_messages(self._board.tasks)
        return response

    # --- health; in the diagnostics thread

    def _statuses(self) -> list[DiagnosticStatus]:
        return statuses(self._report())

    def _report(self) -> NodeReport:
        if (board := self._board) is not None:  # a client may think of a new name each second, for days
            names = {standing.task.name for standing in board.tasks}
            self._meter.forget("task.", names)
            self._meter.forget("failed.", names | {WORKER})
        settings, worker, keeper, asker, state = self._settings, self._worker, self._keeper, self._asker, self.state
        looking = self._cameras
        name, reading = self.get_fully_qualified_name(), self._meter.read()
        hardware = settings.computed_by if settings else ""
        restarts = keeper.restarts if keeper is not None else 0
        if state != "active" or worker is None or settings is None or keeper is None:
            idle = judge_idle(state, self.failure)
            return NodeReport(name, hardware, idle, idle, reading, engine_restarts=restarts)
        cameras = tuple(
            self._camera_report(camera, looking[camera.name]) for camera in settings.cameras if camera.name in looking
        )
        engine = judge_engine(
            reading,
            answered=sum(camera.reading.recent.get("frames.answered", 0) for camera in cameras),
            late=sum(camera.reading.recent.get("dropped.late", 0) for camera in cameras),
            active_s=time.monotonic() - self._active_since_s,
            busy_s=worker.busy_s,
            max_age_s=self._parameters_kept["max_age_s"],
            trouble=keeper.trouble,
        )
        health = judge({camera.name: camera.health for camera in cameras}, engine)
        asks = asker.open if asker is not None else 0
        return NodeReport(name, hardware, health, engine, reading, cameras, asks, restarts, keeper.kept_bytes)

    def _camera_report(self, settings: CameraSettings, camera: Camera) -> CameraReport:
        reading = camera.meter.read()
        # Not of the subscription itself: the executor may be destroying it in this very moment.
        topic = self.resolve_topic_name(settings.topic)
        types = Counter(end.topic_type for end in self.get_publishers_info_by_topic(topic))
        publishers = types.pop(IMAGE_TYPES[settings.compressed], 0)
        health: Health = judge_camera(
            reading,
            publishers=publishers,
            active_s=time.monotonic() - self._active_since_s,
            camera_timeout_s=self._camera_timeout_s(settings.name),
            topic=topic,
            other_types=types,
        )
        return CameraReport(settings.name, topic, health, reading, publishers)

    def _camera_timeout_s(self, camera: str) -> float:
        own_s = self._parameters_kept[f"{camera}.camera_timeout_s"] if camera else 0.0
        return float(own_s or self._parameters_kept["camera_timeout_s"])


def main() -> NoReturn:
    """Entry point `perception`; ends the process."""
    run_node(Perception)


if __name__ == "__main__":
    main()
