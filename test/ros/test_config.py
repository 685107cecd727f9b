"""What ships as configuration is what the node has: names, defaults, tasks, launch arguments, executables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from exaone_ros.ros.freshness import Refusal
from exaone_ros.ros.health import State
from exaone_ros.ros.parameters import ParameterError
from exaone_ros.ros.perception_settings import PARAMETERS, CameraSettings, Settings, parameters_of_cameras
from exaone_ros.ros.pixels import Reason
from exaone_ros.ros.schedule import check_standing_tasks
from exaone_ros.tasks import standing_tasks_from_yaml

ROOT = Path(__file__).parents[2]
VALUES = {parameter.name: parameter.default for parameter in PARAMETERS}


def test_the_parameter_file_holds_all_parameters_with_their_defaults() -> None:
    data = yaml.safe_load((ROOT / "config" / "perception.yaml").read_text(encoding="utf-8"))
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in VALUES.items()}
    assert data == {"/**": {"ros__parameters": listed}}


def test_every_default_is_allowed_and_described() -> None:
    for parameter in PARAMETERS:
        assert parameter.checked(parameter.default) == parameter.default
        assert parameter.description.endswith((".", "none."))
        ranged = parameter.minimum is not None and parameter.maximum is not None
        assert ranged == isinstance(parameter.default, (int, float)) or isinstance(parameter.default, bool)


def test_the_task_file_asks_for_boxes_a_count_and_a_decision() -> None:
    tasks = standing_tasks_from_yaml((ROOT / "config" / "tasks.yaml").read_text(encoding="utf-8"))
    assert check_standing_tasks(tasks) == []
    assert {standing.task.KIND for standing in tasks} == {"ground", "count", "decide"}


def test_the_commented_examples_of_the_task_file_are_tasks_too() -> None:
    lines = (ROOT / "config" / "tasks.yaml").read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("# hazards:"))
    (hazards,) = standing_tasks_from_yaml("\n".join(line[2:] for line in lines[start:]))
    assert hazards.priority == 10 and hazards.rate_hz == 1


def test_the_defaults_together_are_settings() -> None:
    settings = Settings.from_values(VALUES)
    assert (settings.model / "config.json").is_file() and len(settings.tasks) == 3
    assert settings.cameras == (CameraSettings("", "image_raw", False, "reliable"),)
    compressed = Settings.from_values(VALUES | {"image_transport": "compressed", "image_topic": "/cam/image"})
    assert compressed.cameras == (CameraSettings("", "/cam/image/compressed", True, "reliable"),)


def with_cameras(*names: str, **values: Any) -> dict[str, Any]:
    """Values of a node with these cameras, as it declares them."""
    parameters = parameters_of_cameras(names)
    return VALUES | {"cameras": names} | {p.name: p.default for p in parameters} | values


def test_several_cameras_each_have_their_topic_and_transport() -> None:
    values = with_cameras("front", "wrist") | {"wrist.image_transport": "compressed", "wrist.image_topic": "/w/image"}
    settings = Settings.from_values(values)
    assert settings.camera_names == ("front", "wrist")
    front, wrist = settings.cameras
    assert (front.topic, front.compressed, front.prefix) == ("front/image_raw", False, "front/")
    assert (wrist.topic, wrist.compressed) == ("/w/image/compressed", True)


def test_what_a_camera_leaves_open_is_as_the_node_says() -> None:
    values = with_cameras("front", "wrist", image_transport="compressed", reliability="best_effort")
    front, wrist = Settings.from_values(values | {"wrist.image_transport": "raw"}).cameras
    assert (front.topic, front.compressed, front.reliability) == ("front/image_raw/compressed", True, "best_effort")
    assert (wrist.topic, wrist.compressed, wrist.reliability) == ("wrist/image_raw", False, "best_effort")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (with_cameras("front", "front"), "twice"),
        (VALUES | {"cameras": ("no spaces",)}, "letters, digits"),
        (VALUES | {"cameras": ("qos_overrides",)}, "letters, digits"),
        (with_cameras("a", image_topic="/mine"), "'a.image_topic'"),
        (with_cameras("a", "b") | {"b.image_topic": "a/image_raw"}, "as of another camera"),
        (with_cameras("a") | {"a.image_topic": "no spaces"}, "'a.image_topic' is 'no spaces'"),
    ],
)
def test_cameras_that_cannot_be_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        Settings.from_values(values)


def test_the_page_of_parameters_is_current() -> None:
    """Written anew by `python -m exaone_ros.nodes.parameters_page > docs/parameters.md`."""
    pytest.importorskip("mujoco")  # the simulator's parameters stand beside its node
    from exaone_ros.nodes.parameters_page import page

    assert (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8") == page()


def test_every_node_with_parameters_is_on_the_page() -> None:
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    nodes = [p.stem for p in (ROOT / "exaone_ros" / "nodes").glob("*.py") if "ParameterSet(" in p.read_text("utf-8")]
    assert nodes and [name for name in nodes if f"## {name}\n" not in text] == []


def test_the_page_tells_live_from_read_only() -> None:
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    text = text[text.index("## perception") : text.index("## QoS")]
    rows = {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `")}
    for parameter in PARAMETERS:
        assert ("**live**" in rows[parameter.name]) == parameter.live, parameter.name
        assert parameter.unit in rows[parameter.name]


def test_the_documentation_explains_each_name() -> None:
    text = (ROOT / "docs" / "perception.md").read_text(encoding="utf-8")
    names = [state.value for state in State] + [*get_args(Refusal), *get_args(Reason)]
    assert [name for name in names if f"`{name}`" not in text and name != "not_depth"] == []
