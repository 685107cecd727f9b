"""Imports run downwards only, and ROS stays at the surface: the rules of docs/architecture.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.imports import PACKAGE, ROOT, imports_of, needed_modules, source_files

# Room -> rooms that it may import. Everybody may import what lies beside the rooms.
ALLOWED = {
    "tasks": set(),
    "model": set(),
    "action": set(),
    "engine": {"tasks", "model"},
    "sim": {"tasks"},
    "cli": {"tasks", "model", "engine", "view"},
    "view": {"tasks", "engine", "sim"},
    "training": {"tasks", "model", "engine", "action", "sim"},
    "geometry": set(),
    "ros": {"tasks", "model", "engine", "action", "sim", "view", "geometry"},
    "bench": {"tasks", "model", "engine", "sim", "training", "view", "ros", "geometry"},
    "nodes": {"ros", "tasks", "model", "engine", "action", "sim", "view"},
}
ROS_ROOMS = {"ros", "nodes"}
FOR_EVERYBODY = {"errors", "pipes", "share"}
ROS_PACKAGES = {"rclpy", "rosidl_runtime_py", "ament_index_python", "cv_bridge", "launch", "launch_ros", "tf2_ros"}


def room_of(path: Path) -> str:
    """`engine` for exaone_ros/engine/...; the module's name for a file beside the rooms."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return parts[0]


def is_ros(module: str) -> bool:
    top = module.split(".")[0]
    return top in ROS_PACKAGES or top.endswith(("_msgs", "_interfaces", "_srvs"))


def all_imports() -> list[tuple[Path, str, int]]:
    return [(path, found.module, found.line) for path in source_files() for found in imports_of(path)]


def rooms() -> set[str]:
    return {path.name for path in (ROOT / PACKAGE).iterdir() if (path / "__init__.py").is_file()}


def test_every_room_has_a_rule() -> None:
    assert rooms() <= set(ALLOWED)


def test_imports_run_downwards_only() -> None:
    wrong = []
    for path, module, line in all_imports():
        room, parts = room_of(path), module.split(".")
        if room not in ALLOWED or parts[0] != PACKAGE or len(parts) == 1:
            continue
        other = parts[1]
        if other not in {room, *FOR_EVERYBODY, *ALLOWED[room]}:
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not wrong, f"{room_rules()}\n" + "\n".join(wrong)


def test_only_ros_and_nodes_know_ros() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path, module, line in all_imports()
        if is_ros(module) and room_of(path) in set(ALLOWED) - ROS_ROOMS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("forbidden", ["numpy", "torch", "rclpy", "cv2", "transformers"])
def test_tasks_are_plain_python(forbidden: str) -> None:
    """Also through what they import: a task must be usable where nothing is installed."""
    wrong = [path.name for path in source_files(ROOT / PACKAGE / "tasks") if forbidden in needed_modules(path)]
    assert not wrong


@pytest.mark.parametrize("optional", ["torch", "transformers", "mujoco", "onnxruntime", "tensorrt"])
@pytest.mark.parametrize("room", ["model", "engine", "ros", "nodes"])
def test_optional_packages_are_imported_where_they_are_used(room: str, optional: str) -> None:
    """A node on a robot starts without torch, without a simulator and with one engine library."""
    exempt = {"torch_reference.py"} if optional == "torch" else set()
    wrong = [
        str(path.relative_to(ROOT))
        for path in source_files(ROOT / PACKAGE / room)
        if path.name not in exempt and optional in needed_modules(path)
    ]
    assert not wrong


def test_a_wrong_import_is_found(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text("def later():\n    from sensor_msgs.msg import Image\n\nif True:\n    import torch\n")
    found = {found.module: found.at_import for found in imports_of(file)}
    assert found == {"sensor_msgs.msg": False, "torch": True}


def room_rules() -> str:
    return "\n".join(
        f"{room} may import {', '.join(sorted(others)) or 'no other room'}" for room, others in ALLOWED.items()
    )
