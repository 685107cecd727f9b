"""Parameters as data: what there is, what it means, what is allowed, and when it may change.

rclpy refuses a bad value from a file by an exception in the node's constructor, and ignores unknown names. Here a node
starts with either, and refuses to be *configured* until they are put right, with all reasons at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidTopicNameException
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter as RclParameter
from rclpy.validate_topic_name import validate_topic_name

from exaone_ros.errors import ExaoneError
from exaone_ros.tasks.base import shown

Value = bool | int | float | str | tuple[str, ...]

QOS_PREFIX = "qos_overrides."

_BUILT_IN = ("use_sim_time", "start_type_description_service")


class ParameterError(ExaoneError, ValueError):
    """A parameter is unknown, of the wrong type, out of range, or may not change now."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    Attributes:
        name: as on the command line.
        default: its type is the parameter's type; a tuple of texts makes it a list of texts.
        description: what it is for, one or two sentences.
        unit: e.g. ``s``; empty for none.
        minimum: least number allowed.
        maximum: greatest number allowed.
        choices: texts allowed; empty = any.
        live: True if it may change while the node is configured; else it is read at `configure`.
    """

    name: str
    default: Value
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    def checked(self, value: object) -> Value:
        """Return `value` in the parameter's type; an integer will do for a float.

        Raises:
            ParameterError: wrong type, out of range, not finite, or not among the choices.
        """
        wanted = type(self.default)
        if wanted is tuple:
            return self._checked_texts(value)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not wanted:
            raise ParameterError(
                f"'{self.name}' is {shown(value)} of type {type(value).__name__}; expected {wanted.__name__}"
            )
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not self._in_range(value):
            raise ParameterError(f"'{self.name}' is {shown(value)}; expected {self._range()}")
        if self.choices and value not in self.choices:
            raise ParameterError(f"'{self.name}' is {shown(value)}; expected {self._listed()}")
        return value  # type: ignore[return-value]

    def descriptor(self, read_at: str = "configure") -> ParameterDescriptor:
        """What `ros2 param describe` shows.

        Args:
            read_at: when the node takes the values of parameters that are not live.
        """
        when = "may change at any time" if self.live else f"read at {read_at}"
        descriptor = ParameterDescriptor(description=f"{self.description} ({when})")
        descriptor.additional_constraints = self._listed() if self.choices else ""
        if self.unit:
            descriptor.description = f"[{self.unit}] {descriptor.description}"
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, int):
                bounds = IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=0)
                descriptor.integer_range = [bounds]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum), step=0.0)
                ]
        return descriptor

    def _checked_texts(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(entry, str) for entry in value):
            raise ParameterError(f"'{self.name}' is {shown(value)}; expected a list of texts")
        return tuple(value)

    def _listed(self) -> str:
        return f"one of {', '.join(choice or 'nothing' for choice in self.choices)}"

    def _in_range(self, value: float) -> bool:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return math.isfinite(value) and low <= value <= high

    def _range(self) -> str:
        low = "" if self.minimum is None else f"from {self.minimum:g} "
        high = "" if self.maximum is None else f"up to {self.maximum:g} "
        return f"{low}{high}{self.unit}".strip() or "a finite number"


class ParameterSet:
    """Declares the parameters of a node and keeps watch over them.

    Create the node with ``automatically_declare_parameters_from_overrides=True`` and without declaring these
    parameters; unknown names are noticed only then.

    Args:
        node: whose parameters they are.
        parameters: all of them.
        locked: True while the parameters that are not live may not change.
    """

    def __init__(self, node: Node, parameters: Sequence[Parameter], locked: Callable[[], bool] = lambda: False) -> None:
        self._node, self._locked = node, locked
        managed = isinstance(node, LifecycleNode)  # another node cannot be configured anew, only started anew
        self._read_at = "configure" if managed else "the start"
        self._instead = "clean the node up first, then set it" if managed else "start the node anew with another value"
        self._known = {parameter.name: parameter for parameter in parameters}
        self._problems: dict[str, str] = {}
        for parameter in parameters:
            self._declare(parameter)
        for name in node.get_parameters_by_prefix(""):
            if not self._is_known(name):
                near = get_close_matches(name, self._known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                self._problems[name] = f"there is no parameter '{name}'{hint}"
        node.add_on_set_parameters_callback(self._judge)

    def declare_more(self, parameters: Iterable[Parameter]) -> None:
        """Declare parameters whose names follow from the value of another; those that are there already stay."""
        for parameter in parameters:
            if parameter.name not in self._known:
                self._known[parameter.name] = parameter
                self._problems.pop(parameter.name, None)
                self._declare(parameter)

    @property
    def problems(self) -> list[str]:
        """Why the node cannot be configured: what was given at the start and is not right; empty where all is well."""
        return [*self._problems.values(), *self._faults_of_built_in()]

    def values(self) -> dict[str, Any]:
        """All values by name.

        Raises:
            ParameterError: there are `problems`; names them all.
        """
        if problems := self.problems:
            raise ParameterError("; ".join(problems))
        return {name: self[name] for name in self._known}

    def __getitem__(self, name: str) -> Any:
        """The value of one parameter now."""
        return self._known[name].checked(self._node.get_parameter(name).value)

    def _declare(self, parameter: Parameter) -> None:
        value, problem = parameter.default, ""
        if self._node.has_parameter(parameter.name):
            given = self._node.get_parameter(parameter.name).value
            self._node.undeclare_parameter(parameter.name)
            try:
                value = parameter.checked(given)
            except ParameterError as error:
                problem = str(error)
        self._node.declare_parameter(parameter.name, value, parameter.descriptor(self._read_at), ignore_override=True)
        if problem:  # noted last: declaring counts as setting, which puts earlier faults right
            self._problems[parameter.name] = problem

    def _faults_of_built_in(self) -> Iterator[str]:
        """Of those rclpy only logs an error, and goes on as if nothing had been given; their type stays as it was."""
        for name in _BUILT_IN:
            if self._node.has_parameter(name) and not isinstance(value := self._node.get_parameter(name).value, bool):
                yield f"'{name}' is {shown(value)} of type {type(value).__name__}; expected bool: start the node anew"

    def _is_known(self, name: str) -> bool:
        return name in self._known or name in _BUILT_IN or name.startswith(QOS_PREFIX)

    def _judge(self, changes: Iterable[RclParameter]) -> SetParametersResult:
        """Called by rclpy before values are set; all of them are refused if one is."""
        changes = list(changes)
        try:
            for change in changes:
                parameter = self._known.get(change.name)
                if parameter is None and not change.name.startswith(QOS_PREFIX):
                    continue
                if parameter is not None:
                    parameter.checked(change.value)
                # The QoS of a topic is settled when the topic is made: a later change would have no effect.
                settled = parameter is None or not parameter.live
                if settled and self._node.has_parameter(change.name) and self._locked():
                    raise ParameterError(f"'{change.name}' is read at {self._read_at}; {self._instead}")
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for change in changes:
            self._problems.pop(change.name, None)
        return SetParametersResult(successful=True)


@contextmanager
def named_overrides(node: Node) -> Iterator[None]:
    """Around the constructor of rclpy's Node: what was given without a type is named.

    An empty list in a parameter file has no type in ROS, and ends that constructor with an error that names nothing.

    Raises:
        ParameterError: names the parameter.
    """
    try:
        yield
    except ValueError as error:
        given = getattr(node, "_parameter_overrides", {})
        untyped = [name for name, value in given.items() if value.type_ is RclParameter.Type.NOT_SET]
        if not untyped:
            raise
        raise ParameterError(
            f"'{untyped[0]}' is given without a value, or as an empty list, whose type ROS cannot tell; leave it out, "
            'or write [""] for a list without entries'
        ) from error


def checked_topic(parameter: str, name: str) -> str:
    """The name as it is.

    Raises:
        ParameterError: no topic can have it.
    """
    try:
        validate_topic_name(name)
    except InvalidTopicNameException as error:
        reason = str(error).replace("\n", " ").strip()
        raise ParameterError(f"'{parameter}' is {shown(name)}; expected the name of a topic: {reason}") from error
    return name
