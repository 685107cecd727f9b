"""What ships as configuration is what the node has: names, defaults, tasks, launch arguments, executables."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from exaone_ros.ros.freshness import Refusal
from exaone_ros.ros.health import State
from exaone_ros.ros.perception_settings import PARAMETERS, Settings
from exaone_ros.ros.pixels import Reason
from exaone_ros.ros.schedule import check_standing_tasks
from exaone_ros.tasks import standing_tasks_from_yaml

ROOT = Path(__file__).parents[2]
VALUES = {parameter.name: parameter.default for parameter in PARAMETERS}


def test_the_parameter_file_holds_all_parameters_with_their_defaults() -> None:
    data = yaml.safe_load((ROOT / "config" / "perception.yaml").read_text(encoding="utf-8"))
    assert data == {"/**": {"ros__parameters": VALUES}}


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
    assert settings.image_topic == "image_raw" and not settings.compressed
    compressed = Settings.from_values(VALUES | {"image_transport": "compressed", "image_topic": "/cam/image"})
    assert compressed.image_topic == "/cam/image/compressed" and compressed.compressed


class Recorded:
    """Anything that a launch file makes of `launch` and `launch_ros`: its class name and arguments."""

    made: list[Recorded] = []  # noqa: RUF012

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments, self.named = arguments, named
        Recorded.made.append(self)


class LaunchFinder:
    """Makes every module of `launch` and `launch_ros` one in which each name is a recorder."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        wanted = name.split(".")[0] in ("launch", "launch_ros")
        return importlib.util.spec_from_loader(name, self) if wanted else None  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__path__ = []

        def recorder(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (Recorded,), {})

        module.__getattr__ = recorder  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@pytest.fixture
def launch_file() -> Iterator[types.ModuleType]:
    """launch/perception.launch.py, loaded without `launch`."""
    saved = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("launch", "launch_ros")}
    for name in saved:
        del sys.modules[name]
    Recorded.made = []
    finder = LaunchFinder()
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        path = ROOT / "launch" / "perception.launch.py"
        spec = importlib.util.spec_from_file_location("perception_launch", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
        for name in [name for name in sys.modules if name.split(".")[0] in ("launch", "launch_ros")]:
            del sys.modules[name]
        sys.modules.update(saved)


def launched(launch_file: types.ModuleType, **given: str) -> dict[str, Any]:
    """The named arguments of the one node that the launch file makes of these launch arguments."""
    values = {name: default for name, (default, _) in launch_file.ARGUMENTS.items()} | {"params_file": "params.yaml"}
    (node,) = launch_file.make_nodes(types.SimpleNamespace(launch_configurations=values | given))
    assert type(node).__name__ == "Node"
    return node.named


def test_the_launch_file_declares_what_nav2_users_expect(launch_file: types.ModuleType) -> None:
    launch_file.generate_launch_description()
    declared = {r.arguments[0]: r.named for r in Recorded.made if type(r).__name__ == "DeclareLaunchArgument"}
    assert list(declared) == [
        "namespace", "use_sim_time", "params_file", "autostart", "log_level", "image_topic", "model",
    ]  # fmt: skip
    assert declared["namespace"]["default_value"] == "exaone"
    assert all(argument["description"] for argument in declared.values())
    (params_file,) = (r for r in Recorded.made if type(r).__name__ == "PathJoinSubstitution")
    assert (ROOT / Path(*params_file.arguments[0][1:])).is_file()


def test_the_launched_node_exists_and_takes_its_parameters(launch_file: types.ModuleType) -> None:
    node = launched(launch_file, image_topic="/camera/image_raw", autostart="false", use_sim_time="true")
    assert (node["package"], node["executable"]) == ("exaone_ros", "perception")
    assert importlib.util.find_spec(f"exaone_ros.nodes.{node['executable']}")
    assert node["namespace"] == "exaone" and node["arguments"] == ["--ros-args", "--log-level", "info"]
    file, parameters = node["parameters"]
    assert file == "params.yaml"
    assert parameters == {"use_sim_time": True, "autostart": False, "image_topic": "/camera/image_raw"}
    assert set(parameters) <= {*VALUES, "use_sim_time"}


def test_what_is_not_given_is_left_to_the_parameter_file(launch_file: types.ModuleType) -> None:
    assert set(launched(launch_file)["parameters"][1]) == {"use_sim_time", "autostart"}
    with pytest.raises(ValueError, match="autostart"):
        launched(launch_file, autostart="yes")


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
