"""The parameters of the perception node, and what they mean once they are checked together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exaone_ros.engine.server_settings import public_address
from exaone_ros.errors import ExaoneError
from exaone_ros.ros.bridge import Converter
from exaone_ros.ros.parameters import Parameter, ParameterError, checked_topic
from exaone_ros.ros.qos import Reliability
from exaone_ros.ros.schedule import check_standing_tasks
from exaone_ros.share import share_path
from exaone_ros.tasks import StandingTask, standing_tasks_from_yaml

BUNDLED_MODEL = "models/exaone4_5-tabletop-tiny"
DEFAULT_TASKS = "config/tasks.yaml"
IMAGE_TOPIC = "image_raw"

_CAMERA_NAME = re.compile(r"(?!qos_overrides$)[A-Za-z][A-Za-z0-9_]{0,31}")

PARAMETERS = (
    Parameter("model", "", "Directory of the checkpoint in Hugging Face format; empty = the bundled tabletop model."),
    Parameter("backend", "onnxruntime", "What computes; server = another machine, see server_url.",
              choices=("onnxruntime", "tensorrt", "torch", "server")),
    Parameter("server_url", "http://127.0.0.1:8000/v1", "Of backend server: address of its OpenAI-compatible API. Its "
              "key comes from the environment, EXAONE_SERVER_API_KEY."),
    Parameter("server_model", "", "Of backend server: name of the model there."),
    Parameter("device", "cpu", "Where it computes: cpu, cuda or cuda:N; what is asked for is used or refused."),
    Parameter("threads", 0, "Processor threads of the engine; 0 = the backend's default.", minimum=0, maximum=256),
    Parameter("slots", 8, "Sequences that fit into the KV cache: one for the image, one for each question asked "
              "at the same time; more questions take turns.", minimum=2, maximum=64),
    Parameter("context", 1024, "Tokens of image, question, reasoning and answer at most.", unit="tokens",
              minimum=256, maximum=262144),
    Parameter("visual_tokens", 0, "Visual tokens that an image may take at most: a larger one is shrunk, which saves "
              "time and context and costs small things. 0 = what the checkpoint allows; backend tensorrt shrinks to "
              "what its engines were compiled for in any case, backend server leaves it to the server.",
              unit="tokens", minimum=0, maximum=65536),
    Parameter("draft_previous", 8, "Tokens of the last answer to the same question that are guessed and verified in "
              "one step; 0 = none. Changes no answer.", minimum=0, maximum=64),
    Parameter("draft_ngram", 4, "Tokens guessed from the grammar and from what often followed in earlier answers, and "
              "verified in one step; 0 = none. Changes no answer.", minimum=0, maximum=16),
    Parameter("draft_mtp", 0, "Guesses of the checkpoint's MTP layer that are verified in one step; 0 = none. Changes "
              "no answer.", minimum=0, maximum=3),
    Parameter("kept_mb", 1024, "Memory that prompt heads and encoded pictures kept for later questions may take "
              "together; the least recently used goes first. Changes no answer.", unit="MB", minimum=0,
              maximum=1048576),
    Parameter("tasks_file", "", "YAML file of the standing tasks; empty = the package's config/tasks.yaml."),
    Parameter("cameras", ("",), "Names of the cameras that share the model; empty = one camera without a name. Each "
              "named camera has parameters of its own, such as <camera>.image_topic, and publishes its answers on "
              "<camera>/detections and so on."),
    Parameter("image_topic", IMAGE_TOPIC, "Topic of the images of a camera without a name, without /compressed."),
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
    Parameter("sync_tolerance_s", 0.05, "How far apart the images of several cameras may have been taken for one "
              "question about them together.", unit="s", minimum=0.0, maximum=60.0, live=True),
    Parameter("concurrent_looks", 1, "Cameras whose images are answered at the same time. 1 = in turn, which gives "
              "the freshest answers; more lets their questions share the steps of the decoder.", minimum=1, maximum=16),
    Parameter("camera_timeout_s", 2.0, "Without a fresh image for this long the state is stale_camera.",
              unit="s", minimum=0.1, maximum=3600.0, live=True),
    Parameter("ask_deadline_s", 30.0, "Deadline of questions of the action ask that name none.", unit="s",
              minimum=0.1, maximum=3600.0, live=True),
    Parameter("max_asks", 8, "Goals of the action ask that are answered at the same time; more are refused.",
              minimum=1, maximum=256, live=True),
    Parameter("engine_timeout_s", 60.0, "A call of the backend that takes longer hangs: the state is engine_failed "
              "then.", unit="s", minimum=1.0, maximum=3600.0),
    Parameter("end_on_hang", False, "End the process, with code 1, when the engine hangs: for launch files that "
              "respawn it.", live=True),
    Parameter("engine_restart_after", 3, "Failures in a row after which the engine is opened anew; 0 = never.",
              minimum=0, maximum=1000, live=True),
    Parameter("autostart", True, "Configure and activate at start, without a lifecycle manager."),
)  # fmt: skip


def camera_names(cameras: Sequence[str]) -> list[str]:
    """The names in the parameter `cameras`; empty ones, which YAML needs for an empty list, do not count."""
    return [name.strip() for name in cameras if name.strip()]


def camera_parameters(name: str) -> tuple[Parameter, ...]:
    """The parameters of one named camera; an empty text, or 0, leaves it to the node's parameter of the same name."""
    return (
        Parameter(f"{name}.image_topic", f"{name}/image_raw", f"Topic of the images of {name}, without /compressed."),
        Parameter(f"{name}.image_transport", "", "raw, or compressed (JPEG or PNG on <image_topic>/compressed); "
                  "empty = the node's image_transport.", choices=("", "raw", "compressed")),
        Parameter(f"{name}.reliability", "", "QoS of the image subscription; empty = the node's reliability.",
                  choices=("", "reliable", "best_effort")),
        Parameter(f"{name}.camera_timeout_s", 0.0, "Without a fresh image for this long the camera's state is "
                  "stale_camera; 0 = the node's camera_timeout_s.", unit="s", minimum=0.0, maximum=3600.0, live=True),
    )  # fmt: skip


def parameters_of_cameras(cameras: Sequence[str]) -> list[Parameter]:
    """The parameters of all named cameras whose names can stand in one of a parameter."""
    return [
        parameter
        for name in camera_names(cameras)
        if _CAMERA_NAME.fullmatch(name)
        for parameter in camera_parameters(name)
    ]


@dataclass(frozen=True)
class CameraSettings:
    """One camera.

    Attributes:
        name: as tasks name it; empty where the node has one camera without a name.
        topic: of its images, with /compressed where they are.
        compressed: sensor_msgs/CompressedImage instead of Image.
        reliability: of the subscription.
    """

    name: str
    topic: str
    compressed: bool
    reliability: Reliability

    @property
    def prefix(self) -> str:
        """What the names of its answers' topics begin with."""
        return f"{self.name}/" if self.name else ""


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
    cameras: tuple[CameraSettings, ...]
    concurrent_looks: int
    engine_timeout_s: float
    image_converter: Converter
    server_url: str = ""
    server_model: str = ""
    draft_previous: int = 0
    draft_ngram: int = 0
    draft_mtp: int = 0
    kept_mb: int = 1024
    visual_tokens: int = 0

    @property
    def computed_by(self) -> str:
        """Which model answers, and where, without what is secret in an address: for the log and diagnostics."""
        if self.backend == "server":
            return f"{self.server_model} on {public_address(self.server_url)}"
        return f"{self.model.name} on {self.backend} ({self.device})"

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Their names; one empty one where there is only a camera without a name."""
        return tuple(camera.name for camera in self.cameras)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Settings:
        """Check the values together and read the task file.

        Raises:
            ExaoneError: names the parameter or the task, and what is wrong.
        """
        model = Path(values["model"]).expanduser() if values["model"] else share_path(BUNDLED_MODEL)
        if not model.is_dir():
            raise ParameterError(f"'model' is '{model}'; expected the directory of a checkpoint")
        if values["backend"] == "server" and not values["server_model"]:
            raise ParameterError("'server_model' is empty; expected the name under which the server serves the model")
        cameras = _cameras_of(values)
        return cls(
            model=model,
            backend=values["backend"],
            device=values["device"],
            threads=values["threads"],
            slots=values["slots"],
            context=values["context"],
            tasks=_tasks_of(values["tasks_file"], [camera.name for camera in cameras]),
            cameras=cameras,
            concurrent_looks=values["concurrent_looks"],
            engine_timeout_s=values["engine_timeout_s"],
            image_converter=values["image_converter"],
            server_url=values["server_url"],
            server_model=values["server_model"],
            draft_previous=values["draft_previous"],
            draft_ngram=values["draft_ngram"],
            draft_mtp=values["draft_mtp"],
            kept_mb=values["kept_mb"],
            visual_tokens=values["visual_tokens"],
        )


def _cameras_of(values: Mapping[str, Any]) -> tuple[CameraSettings, ...]:
    names = camera_names(values["cameras"])
    if not names:
        return (_camera("", "", values),)
    for name in names:
        if not _CAMERA_NAME.fullmatch(name):
            raise ParameterError(
                f"'cameras' names '{name}'; expected letters, digits and underscores, a letter first, 32 at most"
            )
        if names.count(name) > 1:
            raise ParameterError(f"'cameras' names '{name}' twice; each may stand once")
    if values["image_topic"] != IMAGE_TOPIC:
        raise ParameterError(
            f"'image_topic' is {values['image_topic']!r}, but the cameras have names; set '{names[0]}.image_topic' and "
            "so on"
        )
    cameras = tuple(_camera(name, f"{name}.", values) for name in names)
    topics = [camera.topic for camera in cameras]
    twice = next((camera for camera in cameras if topics.count(camera.topic) > 1), None)
    if twice is not None:
        raise ParameterError(f"'{twice.name}.image_topic' is '{twice.topic}', as of another camera; expected its own")
    return cameras


def _camera(name: str, prefix: str, values: Mapping[str, Any]) -> CameraSettings:
    transport, reliability = (values[f"{prefix}{what}"] or values[what] for what in ("image_transport", "reliability"))
    compressed = transport == "compressed"
    topic = _topic(f"{prefix}image_topic", values[f"{prefix}image_topic"], compressed)
    return CameraSettings(name, topic, compressed, reliability)


def _topic(parameter: str, name: str, compressed: bool) -> str:
    if compressed and not name.endswith("/compressed"):
        name += "/compressed"
    return checked_topic(parameter, name)


def _tasks_of(tasks_file: str, cameras: Sequence[str]) -> tuple[StandingTask, ...]:
    path = Path(tasks_file).expanduser() if tasks_file else share_path(DEFAULT_TASKS)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"'tasks_file' is '{path}', which cannot be read as text: {error}") from error
    try:
        tasks = standing_tasks_from_yaml(text)
        problems = check_standing_tasks(tasks, cameras)
    except ExaoneError as error:
        problems = [str(error)]
    if problems:
        raise ParameterError(f"'tasks_file' {path}: " + "; ".join(problems))
    return tasks
