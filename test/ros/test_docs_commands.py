"""Every command in the documentation is run, here or by a test that is named, or it is said why it cannot be.

Real processes over real DDS. `ros2` itself is not among the wheels: `ros2 run` and `ros2 launch` are done by starting
the very nodes that these would start, its other verbs by `ros2_double`. Simulated cameras are made small, so that the
rendering of pictures that nobody looks at takes no time.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")
pytest.importorskip("onnxruntime")
pytest.importorskip("rosbags")

import rclpy
from docs_commands import Elsewhere, End, Live, Node, Shell, fate_of
from docs_pages import ROOT, blocks, whole_commands
from packaging.requirements import Requirement
from ros2_double import PATIENCE_S, Ros2, await_that

from exaone_interfaces.action import Ask
from exaone_ros.ros.bringup import PLANS
from exaone_ros.ros.children import Child
from exaone_ros.ros.launch_plan import NodePlan
from exaone_ros.ros.listen import spinning
from exaone_ros.tasks import standing_tasks_from_yaml

COMMANDS = list(dict.fromkeys(command for _, command in whole_commands()))
SMALL_CAMERA = {"width": 160, "height": 120, "rate_hz": 2.0, "shadows": False}
PATIENT = {"max_age_s": 100.0, "ask_deadline_s": 100.0}
"""Of the perception node while it is asked something: a busy machine takes its time."""
WHERE_WE_ARE = {"/home/me/two_mugs.yaml": "two_mugs.yaml"}
"""Paths of the reader's own, and what stands there in the workplace of these tests."""


def of(kind: type) -> list[str]:
    """The commands with this fate, in the order of the pages."""
    return [command for command in COMMANDS if isinstance(fate_of(command), kind)]


# --- nothing is forgotten


def test_every_command_is_run_or_it_is_said_why_not() -> None:
    forgotten = [f"{page}: {command}" for page, command in whole_commands() if fate_of(command) is None]
    assert not forgotten, "say in test/ros/docs_commands.py what becomes of:\n" + "\n".join(forgotten)


def test_tests_that_are_named_exist_and_are_about_it() -> None:
    wrong = []
    for fate in [fate for command in COMMANDS if isinstance(fate := fate_of(command), Elsewhere)]:
        path, _, function = fate.test.partition("::")
        text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
        if f"def {function}(" not in text or fate.word not in text:
            wrong.append(f"{fate.test} does not exist, or does not speak of {fate.word}")
    assert not wrong, "\n".join(wrong)


def test_what_pip_is_told_to_install_is_what_these_tests_run_with() -> None:
    wrong = []
    extras = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + (ROOT / "setup.py").read_text(encoding="utf-8")
    for command in (command for command in COMMANDS if command.startswith("pip install ")):
        for word in shlex.split(command)[2:]:
            if word.startswith(("-", ".")):
                continue
            requirement = Requirement(word)
            if requirement.name == "exaone_ros":
                wrong += [f"{command}: no extra {e}" for e in requirement.extras if f'"{e}"' not in extras]
                continue
            try:
                found = version(requirement.name)
            except PackageNotFoundError:
                continue
            if not requirement.specifier.contains(found, prereleases=True):
                wrong.append(f"{command}: here is {requirement.name} {found}")
    assert not wrong, "\n".join(wrong)


def test_targets_of_make_would_run() -> None:
    targets = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    for target in sorted(targets):
        dry = subprocess.run(["make", "-n", "-C", str(ROOT), target], capture_output=True, text=True, timeout=60)
        assert dry.returncode == 0 and dry.stdout.strip(), f"make {target}: {dry.stderr}"


# --- a place to run them in


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a checkout looks like to somebody who follows the pages, and the working directory of these tests."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("Makefile", "config", "scripts", "test"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "models").mkdir()
    bundled = "exaone4_5-tabletop-tiny"
    for name in {bundled, *re.findall(r"models/([\w.-]+)", "\n".join([*of(Node), *of(Shell)]))}:
        (folder / "models" / name).symlink_to(ROOT / "models" / bundled)
    (folder / "demo_out").mkdir()
    (folder / "demo_out" / "bag").symlink_to(ROOT / "test" / "data" / "tabletop_bag")
    shutil.copy(ROOT / "worlds" / "tabletop.yaml", folder / "two_mugs.yaml")
    mine = next(text for page, text in blocks("yaml") if page == "docs/tutorials.md" and "kind:" in text)
    (folder / "mine.yaml").write_text(mine, encoding="utf-8")
    (pick,) = (command for command in COMMANDS if command.startswith("cat > pick.yaml"))
    subprocess.run(["bash", "-c", pick], cwd=folder, check=True, timeout=60)
    commands = folder / "bin"
    commands.mkdir()
    for name, words in (
        ("python", '"$@"'),
        ("exaone", '-m exaone_ros.cli.main "$@"'),
        (
            "ros2",
            f"-c \"import sys; assert sys.argv[1:] == ['pkg', 'prefix', 'exaone_ros']; print({str(folder)!r})\" \"$@\"",
        ),
    ):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}\n', encoding="utf-8")
        (commands / name).chmod(0o755)
    (folder / "share" / "exaone_ros").mkdir(parents=True)
    (folder / "share" / "exaone_ros" / "config").symlink_to(ROOT / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
        yield folder


@pytest.fixture(scope="module")
def node() -> Iterator[rclpy.node.Node]:
    """Looks at the graph and speaks for the `ros2` command."""
    context = rclpy.Context()
    rclpy.init(context=context)
    made = rclpy.create_node("reader", context=context)
    with spinning(made):
        yield made
    rclpy.try_shutdown(context=context)


def plans_of(command: str) -> list[NodePlan]:
    """The nodes of ours that a launch file starts with these arguments."""
    _, _, _, file, *given = shlex.split(command)
    steps = PLANS[file.removesuffix(".launch.py")].resolve(dict(word.split(":=", 1) for word in given))
    return [step for step in steps if isinstance(step, NodePlan) and step.package == "exaone_ros"]


def processes(command: str) -> list[tuple[str, list[str]]]:
    """(node, arguments) of the processes that a command starts, cameras made small."""
    for theirs, ours in WHERE_WE_ARE.items():
        command = command.replace(theirs, ours)
    words = shlex.split(command)
    if words[:2] == ["ros2", "launch"]:
        started = [(plan.executable, plan.ros_arguments()) for plan in plans_of(command)]
    elif words[:3] == ["ros2", "run", "exaone_ros"]:
        started = [(words[3], words[4:])]
    else:
        assert words[:2] == ["python", "-m"] and words[2].startswith("exaone_ros.nodes."), command
        started = [(words[2].removeprefix("exaone_ros.nodes."), words[3:])]
    small = [word for name, value in SMALL_CAMERA.items() for word in ("-p", f"{name}:={str(value).lower()}")]
    patient = [word for name, value in PATIENT.items() for word in ("-p", f"{name}:={value}")]
    more = {"simulator": small, "perception": patient}
    return [(name, arguments + more.get(name, [])) for name, arguments in started]


@contextmanager
def running(command: str, folder: Path) -> Iterator[list[Child]]:
    """The processes of a command for the length of the block; each has to end well when it is asked to."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child(name, arguments, folder / f"{name}.log"))
            for name, arguments in processes(command)
        ]
        yield children
        for child in children:  # in a busy hour a process may need long even for its end
            child.process.send_signal(signal.SIGINT)
        for child in children:
            child.process.wait(PATIENCE_S)
    for child in children:
        # Whoever stops a replay gets what `Ctrl-C` gives: it has not been played to its end.
        assert child.process.returncode in ((0, 1) if child.node == "replay" else (0,)), child.tail()
        assert "Traceback" not in child.log.read_text(), child.tail(40)


def nodes_seen(node: rclpy.node.Node) -> set[str]:
    """Fully qualified names of the nodes that there are; one that was killed is seen for a while longer."""
    return {f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces()}


def open_ends(node: rclpy.node.Node, wanted: tuple[End, ...]) -> set[End]:
    """Those of the ends that there are now."""

    def names(topic: str, direction: str) -> set[str]:
        of_topic = node.get_subscriptions_info_by_topic if direction == "in" else node.get_publishers_info_by_topic
        return {f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in of_topic(topic)}

    return {end for end in wanted if end[0] in names(end[2], end[1])}


# --- commands that start something


@pytest.mark.slow
@pytest.mark.parametrize("command", of(Node))
def test_it_starts_what_the_page_says(command: str, workplace: Path, node: rclpy.node.Node, tmp_path: Path) -> None:
    fate = fate_of(command)
    assert isinstance(fate, Node)
    names = {name for name, _, _ in fate.opens}
    await_that(lambda: not names & nodes_seen(node), "the end of whatever ran before")
    with running(command, tmp_path) as children:

        def all_open() -> bool:
            for child in children:
                assert child.running, f"{command}\nhas ended:\n{child.tail(40)}"
            return open_ends(node, fate.opens) == set(fate.opens)

        await_that(all_open, f"{fate.opens} of {command}")


# --- commands that end by themselves


@pytest.mark.slow
@pytest.mark.parametrize("command", of(Shell))
def test_it_runs_to_its_end(command: str, workplace: Path) -> None:
    fate = fate_of(command)
    assert isinstance(fate, Shell)
    exported = " && env" if command.startswith("export ") else ""
    done = subprocess.run(
        ["bash", "-c", f"set -e; {command}{exported}"], cwd=workplace, capture_output=True, text=True, timeout=300
    )
    said = done.stdout + done.stderr
    # The doctor says by its status that something is amiss on this machine: that is its answer, not a failure.
    assert done.returncode == 0 or (command.startswith("exaone doctor") and done.returncode == 1), said
    assert fate.shows in said and "Traceback" not in said, said
    assert not fate.writes or (workplace / fate.writes).stat().st_size > 100
    if "PROFILES_FILE=" in command:
        (name,) = re.findall(r"^export (\w+)=", command)
        (path,) = re.findall(rf"^{name}=(.*)$", said, re.MULTILINE)
        assert Path(path).is_file()


# --- commands about something that runs


@pytest.fixture(scope="module")
def demo(workplace: Path, node: rclpy.node.Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Child]]:
    """The demo that the page about the action head starts: simulator, perception, companion, action head."""
    (command,) = (command for command in of(Live) if command.startswith("ros2 launch "))
    with running(command, tmp_path_factory.mktemp("demo")) as children:
        assert [child.node for child in children] == ["simulator", "perception", "companion", "action_head"]
        yield children


@pytest.mark.slow
@pytest.mark.parametrize("command", of(Live))
def test_the_demo_answers_it(
    command: str, demo: list[Child], workplace: Path, node: rclpy.node.Node, tmp_path: Path
) -> None:
    ros2, words = Ros2(node), shlex.split(command)
    match words[1:3]:
        case ["launch", _]:
            assert ros2.topic_echo("/exaone/status").node == "/exaone/perception"
        case ["topic", "echo"]:
            message = ros2.topic_echo(words[-1])
            assert getattr(message, "options", None) != [] and getattr(message, "state", "ok")
        case ["topic", "pub"]:
            ros2.topic_pub(words[5], words[6], rate_hz=float(words[4]))
        case ["service", "call"]:
            response = ros2.service_call(*words[3:6])
            assert response.success, response.message
        case ["param", "describe"]:
            assert ros2.param_describe(*words[3:5]).description
        case ["param", "set"]:
            assert ros2.param_set(*words[3:6]).successful
            assert ros2.param_set(*words[3:5], str(PATIENT[words[4]])).successful
        case ["action", "send_goal"]:
            _status, result, feedback = ros2.action_send_goal(*words[4:7])
            if isinstance(result, Ask.Result):
                assert result.error_code == Ask.Result.ERROR_NONE, result.error_msg
                assert feedback, "the answer is streamed"
            else:
                assert result.stop  # it says how the goal ended: cancelled, or why it could not go on
        case ["bag", "record"]:
            topics = tuple(word for word in words if word.startswith("/"))
            counts = ros2.bag_record(tmp_path / "run", topics, until="/exaone/decision")
            assert counts["/exaone/decision"] and (tmp_path / "run" / "metadata.yaml").is_file()
        case _:
            pytest.fail(f"there is no double for {command}")


def test_the_files_of_tasks_that_the_pages_write_are_tasks(workplace: Path) -> None:
    for name in ("mine.yaml", "pick.yaml"):
        assert len(standing_tasks_from_yaml((workplace / name).read_text(encoding="utf-8"))) >= 2
