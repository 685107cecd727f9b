"""What a launch file is, as data: arguments, and what is started with them. Knows neither `launch` nor rclpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from exaone_ros.errors import ExaoneError
from exaone_ros.share import PACKAGE

Value = bool | int | float | str


class LaunchError(ExaoneError, ValueError):
    """A launch argument is unknown or has a value that cannot be used."""


@dataclass(frozen=True)
class Argument:
    """A launch argument.

    Attributes:
        name: as in ``name:=value``.
        default: its text where it is not given.
        description: what `ros2 launch --show-args` says.
        choices: texts allowed; empty = any.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodePlan:
    """A node to start.

    Attributes:
        executable: of the package.
        name: of the node; empty for programs that are no node of ours to name.
        namespace: of the node; empty = the root.
        parameter_files: YAML files, the later ones win.
        parameters: on top of the files.
        arguments: on the command line, before the ROS arguments.
        package: that has the executable.
        log_level: of the node; empty = its own.
    """

    executable: str
    name: str
    namespace: str = ""
    parameter_files: tuple[str, ...] = ()
    parameters: Mapping[str, Value] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    package: str = PACKAGE
    log_level: str = ""

    def ros_arguments(self) -> list[str]:
        """The command line that `launch_ros` makes of it: ``--ros-args`` and what follows."""
        out = ["--ros-args", "-r", f"__node:={self.name}"]
        if self.log_level:
            out += ["--log-level", self.log_level]
        if self.namespace.strip("/"):
            out += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for file in self.parameter_files:
            out += ["--params-file", file]
        for name, value in self.parameters.items():
            out += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        return out


@dataclass(frozen=True)
class IncludePlan:
    """A launch file of another package: its path below the package's share directory, and its arguments."""

    package: str
    file: str
    arguments: Mapping[str, str]


Step = NodePlan | IncludePlan


@dataclass(frozen=True)
class Plan:
    """A launch file.

    Attributes:
        name: the file is launch/NAME.launch.py.
        arguments: what it takes.
        steps: from the arguments' texts to what is started.
    """

    name: str
    arguments: tuple[Argument, ...]
    steps: Callable[[Mapping[str, str]], list[Step]]

    def defaults(self) -> dict[str, str]:
        """The text of each argument where nothing is given."""
        return {argument.name: argument.default for argument in self.arguments}

    def resolve(self, given: Mapping[str, str]) -> list[Step]:
        """What is started with these arguments; those that are missing have their defaults.

        Raises:
            LaunchError: an unknown argument, or a value that cannot be used; names both.
        """
        known = self.defaults()
        for name in given:
            if name not in known:
                raise LaunchError(self._unknown(name))
        values = known | dict(given)
        for argument in self.arguments:
            if argument.choices and values[argument.name] not in argument.choices:
                raise LaunchError(
                    f"launch argument '{argument.name}' is '{values[argument.name]}'; "
                    f"expected one of {', '.join(choice or 'nothing' for choice in argument.choices)}"
                )
        return self.steps(values)

    def unread(self, command_line: Sequence[str]) -> list[str]:
        """One line for each ``name:=value`` of a command line that is no argument of this launch file.

        `ros2 launch` ignores such words. They are no error: where another launch file includes this one, it may read
        them.
        """
        names = [word.partition(":=")[0] for word in command_line if ":=" in word]
        return [f"{self._unknown(name)} (ignored here)" for name in names if name not in self.defaults()]

    def _unknown(self, name: str) -> str:
        known = self.defaults()
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; expected some of {', '.join(known)}"
        return f"{self.name}.launch.py has no argument '{name}'{hint}"


def as_bool(given: Mapping[str, str], name: str) -> bool:
    """A launch argument, which is always text, as a bool.

    Raises:
        LaunchError: neither true nor false.
    """
    text = given[name].lower()
    if text not in ("true", "false"):
        raise LaunchError(f"launch argument '{name}' is '{given[name]}'; expected true or false")
    return text == "true"
