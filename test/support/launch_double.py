"""A stand-in for ROS's `launch`, `launch_ros` and `launch_testing`, which no package registry has.

Runs a launch file and keeps what it makes. It knows the classes and keyword arguments that our launch files use, of
their versions in Jazzy, Kilted and Lyrical, and refuses all others: a misspelt one is an error here as it is there.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KNOWN: dict[str, dict[str, set[str]]] = {
    "launch": {"LaunchDescription": {"initial_entities"}},
    "launch.actions": {
        "DeclareLaunchArgument": {"default_value", "description", "choices"},
        "IncludeLaunchDescription": {"launch_arguments"},
        "OpaqueFunction": {"function", "args", "kwargs"},
        "RegisterEventHandler": set(),
        "SetEnvironmentVariable": set(),
    },
    "launch.event_handlers": {"OnProcessExit": {"target_action", "on_exit"}},
    "launch.launch_description_sources": {"PythonLaunchDescriptionSource": set()},
    "launch.logging": {},
    "launch.substitutions": {"PathJoinSubstitution": set()},
    "launch_testing": {},
    "launch_testing.actions": {"ReadyToTest": set()},
    "launch_testing.asserts": {},
    "launch_ros": {},
    "launch_ros.actions": {
        "Node": {
            "package", "executable", "name", "namespace", "parameters", "remappings", "arguments", "output", "respawn",
        },
    },
    "launch_ros.parameter_descriptions": {"ParameterValue": {"value_type"}},
    "launch_ros.substitutions": {"FindPackageShare": set()},
}  # fmt: skip


class Made:
    """Something that a launch file made: the name of its class, its arguments."""

    kind = ""
    known: frozenset[str] = frozenset()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        unknown = set(named) - self.known
        assert not unknown, f"{self.kind} has no argument {sorted(unknown)}"
        self.arguments, self.named = arguments, named


class _Finder:
    """Makes the modules of KNOWN."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self) if name in KNOWN else None  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__path__ = []
        for kind, known in KNOWN[spec.name].items():
            setattr(module, kind, type(kind, (Made,), {"kind": kind, "known": frozenset(known)}))
        if spec.name == "launch.logging":  # the real one makes loggers of Python's logging, too
            vars(module)["get_logger"] = logging.getLogger
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


_OURS = "exaone_ros.ros.launching"


@contextmanager
def launch_double() -> Iterator[None]:
    """Within, `launch` and `launch_ros` are the stand-ins; afterwards everything is as it was."""
    tops = ("launch", "launch_ros", "launch_testing")
    saved = {name: module for name, module in sys.modules.items() if name.split(".")[0] in tops or name == _OURS}
    for name in saved:
        del sys.modules[name]
    finder = _Finder()
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
        for name in [name for name in sys.modules if name.split(".")[0] in tops or name == _OURS]:
            del sys.modules[name]
        sys.modules.update(saved)


def run_launch_file(path: Path, given: Mapping[str, str]) -> tuple[list[Made], list[Made]]:
    """Run a launch file with the stand-ins, as `ros2 launch FILE name:=value ...` would.

    Returns:
        (declared arguments, actions that start something).
    """
    with launch_double():
        spec = importlib.util.spec_from_file_location("a_launch_file", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        described = module.generate_launch_description()
        entities: Sequence[Made] = described.arguments[0]
        declared = [entity for entity in entities if entity.kind == "DeclareLaunchArgument"]
        configurations = {entity.arguments[0]: entity.named["default_value"] for entity in declared} | dict(given)
        argv = [f"{name}:={value}" for name, value in given.items()]
        context = types.SimpleNamespace(launch_configurations=configurations, argv=argv)
        started = [
            action
            for entity in entities
            if entity.kind == "OpaqueFunction"
            for action in entity.named["function"](context)
        ]
        return declared, started
