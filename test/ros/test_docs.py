"""What the documentation tells people to type exists: modules, executables, options, parameters, files, names."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")

from companion_peer import detections
from docs_pages import BLOCK, PAGES, ROOT, Found, blocks

from exaone_ros.ros.action_settings import PARAMETERS as ACTION_HEAD
from exaone_ros.ros.bringup import PLANS
from exaone_ros.ros.companion_settings import PARAMETERS as COMPANION
from exaone_ros.tasks import standing_tasks_from_yaml

ROS_PARAMETERS = {"use_sim_time"}


def commands() -> Iterator[Found]:
    """Every line of the shell blocks, continued lines joined, comments and pipes cut off."""
    for page, text in blocks("", "bash", "sh", "console"):
        for line in text.replace("\\\n", " ").splitlines():
            command = re.split(r"\s+#|\s*[|>]\s", line.strip())[0].removeprefix("$ ")
            if command and not command.startswith("#"):
                yield page, command


def words_of(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def node_parameters() -> dict[str, set[str] | None]:
    """Executable -> names of its parameters."""
    from exaone_ros.nodes import rerun_view, simulator

    return {
        "companion": {p.name for p in COMPANION},
        "action_head": {p.name for p in ACTION_HEAD},
        "rerun_view": {p.name for p in rerun_view.PARAMETERS},
        "simulator": {p.name for p in simulator.PARAMETERS},
    }


def executables() -> set[str]:
    return set(re.findall(r'f"(\w+) = \{PACKAGE\}', (ROOT / "setup.py").read_text(encoding="utf-8")))


def source_of(module: str) -> str:
    """Source of a module or, for a package, of all its files: where the option strings of its command line stand."""
    path = ROOT.joinpath(*module.split("."))
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_there_is_something_to_check() -> None:
    assert len(PAGES) > 10 and len(list(commands())) > 40 and len(list(blocks("python"))) >= 5


def test_modules_that_are_run_exist_and_take_their_options() -> None:
    wrong = []
    for page, command in commands():
        for module in re.findall(r"python3? -m (exaone_ros[\w.]*)", command):
            path = ROOT.joinpath(*module.split("."))
            if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
                wrong.append(f"{page}: {module} is no module that can be run")
                continue
            given = command.partition(module)[2].partition("--ros-args")[0]
            options = [word.partition("=")[0] for word in words_of(given) if re.match(r"--[a-z]", word)]
            source = source_of(module)
            if "Motion()" not in source:  # options that are made of fields
                wrong += [f"{page}: {module} has no option {o}" for o in options if f'"{o}"' not in source]
    assert not wrong, "\n".join(wrong)


def test_executables_exist_and_take_their_parameters() -> None:
    wrong = []
    known = node_parameters()
    for page, command in commands():
        found = re.search(r"ros2 run exaone_ros (\w+)|python3? -m exaone_ros\.nodes\.(\w+)", command)
        if not found:
            continue
        name = found[1] or found[2]
        if found[1] and name not in executables():
            wrong.append(f"{page}: there is no executable {name}")
        for parameter in re.findall(r"-p ([\w.]+):=", command):
            if name in known and parameter not in known[name] | ROS_PARAMETERS:
                wrong.append(f"{page}: {name} has no parameter {parameter}")
            elif name == "perception" and f'"{parameter}"' not in source_of("exaone_ros.ros.perception_settings"):
                wrong += [f"{page}: perception has no parameter {parameter}"] if parameter not in ROS_PARAMETERS else []
    assert not wrong, "\n".join(wrong)


def test_launch_files_take_their_arguments() -> None:
    wrong = []
    for page, command in commands():
        found = re.search(r"ros2 launch exaone_ros (\w+)\.launch\.py", command)
        if not found:
            continue
        plan = PLANS.get(found[1])
        names = set(plan.defaults()) if plan else set()
        given = re.findall(r"(\w+):=", command)
        wrong += [f"{page}: {found[1]}.launch.py {name}" for name in given if name not in names]
        assert plan is not None or found[1] == "NAME", f"{page}: no launch file {found[1]}"
    assert not wrong, "\n".join(wrong)


def test_commands_of_exaone_and_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    wrong = []
    for page, command in commands():
        words = words_of(command)
        if words[:1] == ["make"]:
            wrong += [f"{page}: make {w}" for w in words[1:2] if re.fullmatch("[a-z-]+", w) and w not in targets]
        if words[:1] == ["exaone"]:
            path = ROOT / "exaone_ros" / "cli" / f"{words[1]}.py"
            source = path.read_text(encoding="utf-8") if path.is_file() else ""
            wrong += [f"{page}: exaone {words[1]} {o}" for o in words if o.startswith("--") and f'"{o}"' not in source]
            wrong += [] if source else [f"{page}: exaone {words[1]}"]
    assert not wrong, "\n".join(wrong)


def test_files_that_are_named_exist() -> None:
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(
            re.findall(
                r"(?<![\w/.])((?:docs|config|launch|test|exaone_ros)/[\w/.-]+\.(?:md|yaml|xml|py|json|rviz))", text
            )
        )
        wrong += [f"{page.name}: {name}" for name in sorted(named) if not (ROOT / name).exists()]
        for link in re.findall(r"\]\(((?!https?:|#)[^)#]+)", BLOCK.sub("", text)):
            wrong += [] if (page.parent / link).exists() else [f"{page.name}: link to {link}"]
    assert not wrong, "\n".join(wrong)


def imported_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def test_python_blocks_are_python_and_import_what_exists() -> None:
    wrong = []
    for page, text in blocks("python"):
        for module, name in imported_names(ast.parse(text)):
            if importlib.util.find_spec(module.split(".")[0]) is None:
                continue  # an extra that is not installed here
            try:
                found = hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}")
            except ImportError as error:
                wrong.append(f"{page}: {module}: {error}")
                continue
            wrong += [] if found else [f"{page}: {module} has no {name}"]
    assert not wrong, "\n".join(wrong)


def test_yaml_blocks_are_yaml_and_tasks_are_tasks() -> None:
    checked = 0
    for page, text in blocks("yaml"):
        data = yaml.safe_load(text)
        if isinstance(data, dict) and all(isinstance(v, dict) and "kind" in v for v in data.values()):
            assert standing_tasks_from_yaml(text), page
            checked += 1
    assert checked >= 2


def snippet(marker: str) -> dict[str, Any]:
    """Run the Python block of the tutorials that holds `marker`; what it defines."""
    (text,) = (text for page, text in blocks("python") if page == "docs/tutorials.md" and marker in text)
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(text, "tutorials.md", "exec"), names)
    return names


def test_the_subscriber_of_the_tutorial_tells_what_it_hears() -> None:
    told: list[str] = []
    listener = snippet("class Listener")["Listener"]
    me = SimpleNamespace(get_logger=lambda: SimpleNamespace(info=told.append))
    listener.on_detections(me, detections(5, ("red cube", (10.0, 20.0, 30.0, 40.0))))
    listener.on_detections(me, detections(6))
    assert told == ["red cube (0.75) at 20, 30 px"]


@pytest.mark.parametrize(
    ("error_code", "choice", "status"), [(0, "clear", "SUCCESS"), (0, "blocked", "FAILURE"), (3, "", "FAILURE")]
)
def test_the_leaf_of_the_tutorial_ends_as_the_answer_says(error_code: int, choice: str, status: str) -> None:
    leaf_type = snippet("class WayIsClear")["WayIsClear"]
    leaf = leaf_type.__new__(leaf_type)

    def done(value: Any) -> Any:
        return SimpleNamespace(
            add_done_callback=lambda callback: callback(SimpleNamespace(result=lambda: value)),
        )

    result = SimpleNamespace(result=SimpleNamespace(error_code=error_code, choice=choice))
    handle = SimpleNamespace(accepted=True, get_result_async=lambda: done(result))
    sent: list[Any] = []
    leaf.client = SimpleNamespace(
        server_is_ready=lambda: True, send_goal_async=lambda goal: (sent.append(goal), done(handle))[1]
    )
    leaf.status = None
    assert leaf.tick() == status and leaf.tick() == status
    assert len(sent) == 1 and sent[0].task.kind == "decide" and sent[0].task.deadline == 3.0


def test_the_leaf_of_the_tutorial_fails_where_the_node_ends_amid_the_question() -> None:
    leaf_type = snippet("class WayIsClear")["WayIsClear"]
    leaf, ready = leaf_type.__new__(leaf_type), [True]
    never = SimpleNamespace(add_done_callback=lambda callback: None)
    leaf.client = SimpleNamespace(server_is_ready=lambda: ready[0], send_goal_async=lambda goal: never)
    leaf.status, ready[0] = None, False
    assert leaf.tick() == "FAILURE"
    ready[0] = True  # asked once more, now that the node is there
    assert leaf.tick() == leaf.tick() == "RUNNING"
    ready[0] = False
    assert leaf.tick() == "FAILURE"
    ready[0] = True  # it was started anew, and will not answer what the one before was asked
    assert leaf.tick() == "FAILURE"
