"""The perception node: camera images in; detections, counts and decisions out.

Threads: the executor's takes images, services and transitions; the worker's looks and answers (`ros.worker`); a third
publishes diagnostics.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecyclePublisher
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.msg import Decision, ObjectCounts, Tasks
from exaone_interfaces.srv import GetTasks, SetTasks
from exaone_ros.errors import EngineError, TaskError
from exaone_ros.ros import messages, qos
from exaone_ros.ros.bridge import pixel_reader
from exaone_ros.ros.diagnostics import DiagnosticsThread, statuses
from exaone_ros.ros.freshness import Freshness
from exaone_ros.ros.health import Health, judge, judge_idle
from exaone_ros.ros.image import compressed_image_to_rgb, image_to_rgb
from exaone_ros.ros.lifecycle import ManagedNode
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.parameters import ParameterSet
from exaone_ros.ros.perception_settings import PARAMETERS, Settings
from exaone_ros.ros.pixels import PixelReader
from exaone_ros.ros.schedule import TaskSchedule, check_standing_tasks
from exaone_ros.ros.spin import run_node
from exaone_ros.ros.worker import CameraFrame, PerceptionWorker, Publication
from exaone_ros.tasks import StandingTask

STOP_WITHIN_S = 5.0
"""How long a deactivation waits for the engine to come back from the frame it is at."""


def open_engine(settings: Settings) -> Any:
    """Open the engine that the settings name (imports what computes only now)."""
    from exaone_ros.engine.engine import Engine

    return Engine.open(
        settings.model,
        settings.backend,
        slots=settings.slots,
        context=settings.context,
        threads=settings.threads,
        device=settings.device,
    )


class Perception(ManagedNode):
    """Answers standing tasks on the newest image of one camera.

    Args:
        engine_opener: makes the engine at configure.
    """

    def __init__(self, engine_opener: Callable[[Settings], Any] = open_engine) -> None:
        super().__init__("perception")
        self._engine_opener = engine_opener
        self._engine: Any = None
        self._settings: Settings | None = None
        self._schedule: TaskSchedule | None = None
        self._worker: PerceptionWorker | None = None
        self._subscription: Subscription | None = None
        self._read: PixelReader | None = None
        self._topics: dict[str, LifecyclePublisher] = {}
        self._tasks_topic: Publisher | None = None
        self._meter = Meter()
        self._active_since_s = 0.0
        self._parameters_kept = ParameterSet(self, PARAMETERS, locked=lambda: self.state != "unconfigured")
        self.create_service(SetTasks, "set_tasks", self._set_tasks)
        self.create_service(GetTasks, "get_tasks", self._get_tasks)
        self._diagnostics = DiagnosticsThread(self, self._statuses)

    @property
    def autostart(self) -> bool:
        return bool(self._parameters_kept["autostart"])

    def load(self) -> None:
        """Check the parameters and open the engine."""
        self._settings = settings = Settings.from_values(self._parameters_kept.values())
        self._schedule = TaskSchedule(settings.tasks)
        converter, self._read = pixel_reader(settings.image_converter)
        kinds = {"detections": Detection2DArray, "counts": ObjectCounts, "decision": Decision}
        published = [(self.resolve_topic_name(name), "publisher") for name in kinds]
        qos.check_overrides(self, [*published, (self.resolve_topic_name(settings.image_topic), "subscription")])
        started_s = time.monotonic()
        self._engine = self._engine_opener(settings)
        for name, kind in kinds.items():
            with qos.named_override_faults(self.resolve_topic_name(name)):
                self._topics[name] = self.create_lifecycle_publisher(
                    kind, name, qos.answers(), qos_overriding_options=qos.overridable()
                )
        self._tasks_topic = self.create_publisher(Tasks, "tasks", qos.latched())
        self._say_tasks()
        self.get_logger().info(
            f"{settings.model.name} on {settings.backend} ({settings.device}) opened in "
            f"{time.monotonic() - started_s:.1f} s; {len(settings.tasks)} tasks; images are converted by {converter}"
        )

    def start(self) -> None:
        """Begin to look: a new worker, then the subscription that feeds it."""
        assert self._settings is not None and self._schedule is not None and self._read is not None
        settings, read = self._settings, self._read
        self._meter = Meter()
        self._active_since_s = time.monotonic()
        self._worker = PerceptionWorker(
            engine=self._engine,
            read=compressed_image_to_rgb if settings.compressed else lambda message: image_to_rgb(message, read),
            schedule=self._schedule,
            freshness=self._freshness,
            now_ns=self._now_ns,
            publish=self._publish,
            meter=self._meter,
            log=self.get_logger(),
        )
        self._worker.start()
        with qos.named_override_faults(self.resolve_topic_name(settings.image_topic)):
            self._subscription = self.create_subscription(
                CompressedImage if settings.compressed else Image,
                settings.image_topic,
                self._on_image,
                qos.newest_image(settings.reliability),
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible_qos),
                qos_overriding_options=qos.overridable(),
            )

    def stop(self) -> None:
        """End the subscription and the worker.

        Raises:
            EngineError: the engine does not come back from its frame.
        """
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._worker is not None:
            if not self._worker.stop(STOP_WITHIN_S):
                raise EngineError(f"the engine has not come back from a frame within {STOP_WITHIN_S:g} s")
            self._worker = None

    def free(self) -> None:
        """Close the engine and the topics."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        for publisher in self._topics.values():
            self.destroy_lifecycle_publisher(publisher)
        self._topics = {}
        if self._tasks_topic is not None:
            self.destroy_publisher(self._tasks_topic)
            self._tasks_topic = None
        self._settings, self._schedule, self._read, self._worker = None, None, None, None

    def end(self) -> None:
        """Before the process ends: everything, in order."""
        super().end()
        self._diagnostics.stop()

    def _freshness(self) -> Freshness:
        max_age_s, tolerance_s = self._parameters_kept["max_age_s"], self._parameters_kept["stamp_tolerance_s"]
        return Freshness(round(max_age_s * 1e9), round(tolerance_s * 1e9))

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _on_image(self, message: Image | CompressedImage) -> None:
        """Hand the image to the worker; the executor's thread does nothing else with it."""
        if self._worker is not None:
            header = message.header
            self._worker.offer(CameraFrame(message, messages.time_to_ns(header.stamp), header.frame_id))

    def _on_incompatible_qos(self, event: Any) -> None:
        self._meter.count("qos.incompatible", max(event.total_count_change, 1))
        self.get_logger().warning(
            "a publisher of images offers a QoS that this subscription cannot use; set reliability to best_effort"
        )

    def _publish(self, publication: Publication) -> None:
        """Called in the worker's thread with answers that are fresh."""
        detections = messages.detections_message(publication)
        if detections is not None:
            self._topics["detections"].publish(detections)
        counts = messages.counts_message(publication)
        if counts is not None:
            self._topics["counts"].publish(counts)
        for decision in messages.decision_messages(publication):
            self._topics["decision"].publish(decision)

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
            f"task '{name}' is there {n} times; each name may stand once" for name, n in names.items() if n > 1
        ]
        if not problems:
            problems = check_standing_tasks(tasks)
        if self._schedule is None:
            problems.append(f"the node is {self.state}; configure it first")
        elif not problems:
            self._schedule.replace(tasks)
            self._say_tasks()
            self.get_logger().info(f"{len(tasks)} tasks from now on")
        response.success, response.problems = not problems, problems
        return response

    def _say_tasks(self) -> None:
        if self._tasks_topic is not None and self._schedule is not None:
            tasks = messages.tasks_to_messages(self._schedule.tasks)
            self._tasks_topic.publish(Tasks(stamp=messages.ns_to_time(self._now_ns()), tasks=tasks))

    def _get_tasks(self, _request: GetTasks.Request, response: GetTasks.Response) -> GetTasks.Response:
        if self._schedule is not None:
            response.tasks = messages.tasks_to_messages(self._schedule.tasks)
        return response

    def _health(self) -> Health:
        worker, state = self._worker, self.state
        if state != "active" or worker is None:
            return judge_idle(state, self.failure)
        return judge(
            self._meter.read(),
            publishers=self._image_publishers(),
            active_s=time.monotonic() - self._active_since_s,
            busy_s=worker.busy_s,
            camera_timeout_s=self._parameters_kept["camera_timeout_s"],
            max_age_s=self._parameters_kept["max_age_s"],
        )

    def _image_publishers(self) -> int:
        subscription = self._subscription
        return self.count_publishers(subscription.topic_name) if subscription is not None else 0

    def _statuses(self) -> list[DiagnosticStatus]:
        """Called in the diagnostics thread."""
        settings = self._settings
        hardware = f"{settings.model.name} on {settings.backend} ({settings.device})" if settings else ""
        return statuses(self.get_fully_qualified_name(), hardware, self._health(), self._meter.read())


def main() -> NoReturn:
    """Entry point `perception`; ends the process."""
    run_node(Perception)


if __name__ == "__main__":
    main()
