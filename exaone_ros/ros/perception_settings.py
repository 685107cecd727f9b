"""The parameters of the perception node, and what they mean once they are checked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from exaone_ros.errors import ExaoneError
from exaone_ros.ros.bridge import Converter
from exaone_ros.ros.parameters import Parameter, ParameterError
from exaone_ros.ros.qos import Reliability
from exaone_ros.ros.schedule import check_standing_tasks
from exaone_ros.share import share_path
from exaone_ros.tasks import StandingTask, standing_tasks_from_yaml

BUNDLED_MODEL = "models/exaone4_5-tabletop-tiny"
DEFAULT_TASKS = "config/tasks.yaml"

PARAMETERS = (
    Parameter("model", "", "Directory of the checkpoint in Hugging Face format; empty = the bundled tabletop model."),
    Parameter("backend", "onnxruntime", "What computes.", choices=("onnxruntime", "torch")),
    Parameter("device", "cpu", "Where it computes: cpu, cuda or cuda:N; what is asked for is used or refused."),
    Parameter("threads", 0, "Processor threads of the engine; 0 = the backend's default.", minimum=0, maximum=256),
    Parameter("slots", 8, "Sequences that fit into the KV cache: one for the image, one for each question asked "
              "at the same time; more questions take turns.", minimum=2, maximum=64),
    Parameter("context", 1024, "Tokens of image, question, reasoning and answer at most.", unit="tokens",
              minimum=256, maximum=262144),
    Parameter("tasks_file", "", "YAML file of the standing tasks; empty = the package's config/tasks.yaml."),
    Parameter("image_topic", "image_raw", "Topic of the camera's images, without /compressed."),
    Parameter("image_transport", "raw", "raw, or compressed (JPEG or PNG on <image_topic>/compressed).",
              choices=("raw", "compressed")),
    Parameter("reliability", "reliable", "QoS of the image subscription; best_effort for cameras that offer no more.",
              choices=("reliable", "best_effort")),
    Parameter("image_converter", "auto", "Who turns encodings into RGB; auto = cv_bridge where it works.",
              choices=("auto", "cv_bridge", "builtin")),
    Parameter("max_age_s", 1.0, "An older image is not answered, an answer to an older image not published.",
              unit="s", minimum=0.01, maximum=3600.0, live=True),
    Parameter("stamp_tolerance_s", 0.25, "How far an image's stamp may lie in the future; a clock that steps back "
              "further has been reset.", unit="s", minimum=0.0, maximum=60.0, live=True),
    Parameter("camera_timeout_s", 2.0, "Without a fresh image for this long the state is stale_camera.",
              unit="s", minimum=0.1, maximum=3600.0, live=True),
    Parameter("autostart", True, "Configure and activate at start, without a lifecycle manager."),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What the node is configured with; one field for each parameter that is read at configure."""

    model: Path
    backend: str
    device: str
    threads: int
    slots: int
    context: int
    tasks: tuple[StandingTask, ...]
    image_topic: str
    compressed: bool
    reliability: Reliability
    image_converter: Converter

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Settings:
        """Check the values together and read the task file.

        Raises:
            ExaoneError: names the parameter or the task, and what is wrong.
        """
        model = Path(values["model"]).expanduser() if values["model"] else share_path(BUNDLED_MODEL)
        if not model.is_dir():
            raise ParameterError(f"'model' is '{model}'; expected the directory of a checkpoint")
        compressed = values["image_transport"] == "compressed"
        return cls(
            model=model,
            backend=values["backend"],
            device=values["device"],
            threads=values["threads"],
            slots=values["slots"],
            context=values["context"],
            tasks=_tasks_of(values["tasks_file"]),
            image_topic=_topic(values["image_topic"], compressed),
            compressed=compressed,
            reliability=values["reliability"],
            image_converter=values["image_converter"],
        )


def _topic(name: str, compressed: bool) -> str:
    if compressed and not name.endswith("/compressed"):
        name += "/compressed"
    try:
        validate_topic_name(name)
    except InvalidTopicNameException as error:
        reason = str(error).replace("\n", " ").strip()
        raise ParameterError(f"'image_topic' is {name!r}; expected the name of a topic: {reason}") from error
    return name


def _tasks_of(tasks_file: str) -> tuple[StandingTask, ...]:
    path = Path(tasks_file).expanduser() if tasks_file else share_path(DEFAULT_TASKS)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"'tasks_file' is '{path}', which cannot be read as text: {error}") from error
    try:
        tasks = standing_tasks_from_yaml(text)
        problems = check_standing_tasks(tasks)
    except ExaoneError as error:
        problems = [str(error)]
    if problems:
        raise ParameterError(f"'tasks_file' {path}: " + "; ".join(problems))
    return tasks
