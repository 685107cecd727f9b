"""Gazebo, where it is installed: world_checks.py is run by ROS's own `launch_test`, once for each world.

Elsewhere one line says what is missing; that the test itself can be read is checked everywhere.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.launch_double import launch_double

HERE = Path(__file__).parent


def load(file: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"gazebo_{Path(file).stem}", HERE / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


pairs = load("pairs.py")
REASON = pairs.why_not()


@pytest.mark.slow
@pytest.mark.skipif(bool(REASON), reason=REASON or "-")
@pytest.mark.parametrize("world", ["tabletop", "blocked"])
def test_gazebo_shows_our_world(world: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch_testing.launch_test", str(HERE / "world_checks.py")]
    run = subprocess.run(
        [*command, f"--junit-xml={tmp_path / 'result.xml'}"],
        env={**os.environ, "EXAONE_GAZEBO_WORLD": world},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-4000:]


def complete(name: str) -> bool:
    return True


@pytest.mark.parametrize(("distribution", "major"), [("jazzy", 8), ("kilted", 9), ("lyrical", 10)])
def test_the_three_pairs_are_run(distribution: str, major: int) -> None:
    environment = {"ROS_DISTRO": distribution}
    assert pairs.why_not(environment, complete, complete, lambda: {major}) == ""
    other = pairs.why_not(environment, complete, complete, lambda: {7})
    assert f"is {major}" in other and "versions 7" in other


@pytest.mark.parametrize(
    ("environment", "module", "package", "words"),
    [
        ({}, complete, complete, ["no ROS 2 is sourced", "Jazzy + Harmonic, Kilted + Ionic, Lyrical + Jetty"]),
        ({"ROS_DISTRO": "humble"}, complete, complete, ["humble"]),
        ({"ROS_DISTRO": "jazzy"}, complete, lambda name: name != "ros_gz_sim", ["ros_gz_sim", "ros-jazzy-ros-gz"]),
        ({"ROS_DISTRO": "jazzy"}, lambda name: "launch" not in name, complete, ["launch_testing, launch_ros"]),
    ],
)
def test_what_is_missing_is_said_in_one_line(environment: Any, module: Any, package: Any, words: list[str]) -> None:
    reason = pairs.why_not(environment, module, package, lambda: {8})
    assert "\n" not in reason and all(word in reason for word in words), reason


def test_a_folder_of_the_checkout_is_not_taken_for_launch() -> None:
    assert not pairs.has_module("launch_that_nobody_has.actions")
    assert not pairs.has_module("worlds"), "a folder without __init__ is no module"


def test_the_launch_test_can_be_read_and_starts_what_the_launch_file_starts() -> None:
    with launch_double():
        module = load("world_checks.py")
        description, context = module.generate_test_description()
    entities = description.arguments[0]
    kinds = [entity.kind for entity in entities]
    assert kinds[0] == "SetEnvironmentVariable" and kinds[-1] == "RegisterEventHandler"
    assert kinds.count("Node") == 4 and kinds.count("IncludeLaunchDescription") == 1
    spawn = context["spawn"]
    assert spawn.named["executable"] == "create"
    (handler,) = entities[-1].arguments
    assert handler.named["target_action"] is spawn and handler.named["on_exit"][0].kind == "ReadyToTest"
    tests = [name for name in vars(module.TestGazebo) if name.startswith("test_")]
    assert len(tests) == 7
    assert module.iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert module.iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
