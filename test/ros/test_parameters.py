"""Parameters are refused with reasons that a person can act on, at the right moment."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter as RclParameter

from exaone_ros.ros.parameters import Parameter, ParameterError, ParameterSet, named_overrides

RATE = Parameter("rate", 2.5, "How often.", unit="Hz", minimum=0.0, maximum=100.0, live=True)
SIZE = Parameter("size", 3, "How many.", minimum=1, maximum=8)
MODE = Parameter("mode", "fast", "Which way.", choices=("fast", "slow"))
WATCH = Parameter("watch", True, "Whether.")
NAMES = Parameter("names", ("a",), "Which ones.")
ALL = (RATE, SIZE, MODE, WATCH, NAMES)
DEFAULTS = {"rate": 2.5, "size": 3, "mode": "fast", "watch": True, "names": ("a",)}


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (RATE, 0.0, 0.0),
        (RATE, 100, 100.0),
        (SIZE, 8, 8),
        (MODE, "slow", "slow"),
        (WATCH, False, False),
        (NAMES, ["b", "c"], ("b", "c")),
    ],
)
def test_good_values_come_in_the_type_of_the_default(parameter: Parameter, value: Any, expected: Any) -> None:
    checked = parameter.checked(value)
    assert checked == expected and type(checked) is type(parameter.default)


def test_a_huge_value_is_told_in_short() -> None:
    huge = "x" * 100_000
    for parameter, value in ((MODE, huge), (RATE, huge), (NAMES, [1] * 100_000)):
        with pytest.raises(ParameterError) as caught:
            parameter.checked(value)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        (RATE, -0.1, "from 0 up to 100 Hz"),
        (RATE, math.nan, "rate"),
        (RATE, math.inf, "rate"),
        (RATE, "2", "expected float"),
        (RATE, True, "expected float"),
        (SIZE, 0, "from 1 up to 8"),
        (SIZE, 2.0, "expected int"),
        (SIZE, True, "expected int"),
        (MODE, "medium", "fast, slow"),
        (MODE, 1, "expected str"),
        (WATCH, 1, "expected bool"),
        (WATCH, None, "expected bool"),
        (NAMES, "b", "expected a list of texts"),
        (NAMES, [1], "expected a list of texts"),
    ],
)
def test_bad_values_are_refused_with_what_was_expected(parameter: Parameter, value: Any, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        parameter.checked(value)
    assert f"'{parameter.name}'" in str(caught.value)


def declared(context: rclpy.Context, locked: bool = False, **overrides: Any) -> tuple[rclpy.node.Node, ParameterSet]:
    """A node with these overrides, as from a command line or a file, and its parameters."""
    node = rclpy.create_node(
        "parameters",
        context=context,
        parameter_overrides=[RclParameter(name, value=value) for name, value in overrides.items()],
        automatically_declare_parameters_from_overrides=True,
    )
    return node, ParameterSet(node, ALL, locked=lambda: locked)


def test_defaults_overrides_and_descriptions(context: rclpy.Context) -> None:
    node, parameters = declared(context, size=7, rate=50)
    assert parameters.problems == []
    assert parameters.values() == DEFAULTS | {"rate": 50.0, "size": 7}
    rate = node.describe_parameter("rate")
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (0.0, 100.0)
    assert "How often." in rate.description and "[Hz]" in rate.description and "any time" in rate.description
    size = node.describe_parameter("size")
    assert (size.integer_range[0].from_value, size.integer_range[0].to_value) == (1, 8)
    assert "read at the start" in size.description
    assert "fast, slow" in node.describe_parameter("mode").additional_constraints


def test_all_faults_at_the_start_are_kept_until_they_are_put_right(context: rclpy.Context) -> None:
    node, parameters = declared(context, size=70, mode="slwo", sise=3, use_sim_time=False)
    assert len(parameters.problems) == 3
    with pytest.raises(ParameterError) as caught:
        parameters.values()
    for words in ("'size' is 70", "'mode' is 'slwo'", "no parameter 'sise'; did you mean 'size'"):
        assert words in str(caught.value)
    assert parameters["size"] == 3  # the default meanwhile
    assert all(r.successful for r in node.set_parameters([RclParameter("size", value=4)]))
    assert [problem for problem in parameters.problems if "'size' is" in problem] == []
    assert len(parameters.problems) == 2


@pytest.mark.parametrize("value", ["maybe", 1])
def test_a_simulated_time_that_is_neither_on_nor_off_is_refused(context: rclpy.Context, value: object) -> None:
    node, parameters = declared(context, use_sim_time=value)
    for attempt in (value, True):  # both are refused: rclpy keeps the type that was given
        with pytest.raises(ParameterError, match=f"'use_sim_time' is {value!r} of type .*; expected bool: start"):
            parameters.values()
        assert not node.set_parameters([RclParameter("use_sim_time", value=attempt)])[0].successful
    assert len(parameters.problems) == 1


def test_a_change_is_refused_as_a_whole(context: rclpy.Context) -> None:
    node, parameters = declared(context)
    changes = [RclParameter("rate", value=1.0), RclParameter("mode", value="sideways")]
    result = node.set_parameters_atomically(changes)
    assert not result.successful and "sideways" in result.reason
    assert parameters.values() == DEFAULTS


def test_what_is_read_at_the_start_is_locked_afterwards(context: rclpy.Context) -> None:
    node, parameters = declared(context, locked=True)
    (refused,) = node.set_parameters([RclParameter("size", value=4)])
    assert not refused.successful and "read at the start; start the node anew" in refused.reason
    assert node.describe_parameter("size").description.endswith("(read at the start)")
    (taken,) = node.set_parameters([RclParameter("rate", value=4.0)])
    assert taken.successful and parameters["rate"] == 4.0 and parameters["size"] == 3


def test_what_is_read_at_configure_can_be_set_after_a_cleanup(context: rclpy.Context) -> None:
    node = LifecycleNode("managed", context=context, automatically_declare_parameters_from_overrides=True)
    configured = True
    parameters = ParameterSet(node, ALL, locked=lambda: configured)
    (refused,) = node.set_parameters([RclParameter("size", value=4)])
    assert not refused.successful and "read at configure; clean the node up first" in refused.reason
    assert node.describe_parameter("size").description.endswith("(read at configure)")
    configured = False
    (taken,) = node.set_parameters([RclParameter("size", value=4)])
    assert taken.successful and parameters["size"] == 4


def test_lists_are_set_and_refused_as_such(context: rclpy.Context) -> None:
    node, parameters = declared(context, names=["x", "y"])
    assert parameters["names"] == ("x", "y")
    (refused,) = node.set_parameters([RclParameter("names", value="z")])
    assert not refused.successful and parameters["names"] == ("x", "y")


def test_parameters_that_follow_from_others_are_known_once_they_are_declared(context: rclpy.Context) -> None:
    _node, parameters = declared(context, **{"left.width": 7, "right.width": 9})
    assert len(parameters.problems) == 2
    parameters.declare_more([Parameter("left.width", 3, "Width.", minimum=1, maximum=8)])
    assert parameters["left.width"] == 7 and len(parameters.problems) == 1
    parameters.declare_more([Parameter("right.width", 3, "Width.", minimum=1, maximum=8)])
    assert parameters["right.width"] == 3 and "'right.width' is 9" in parameters.problems[0]


def test_a_qos_override_is_locked_once_its_topic_is_made(context: rclpy.Context) -> None:
    node, _ = declared(context, locked=True, **{"qos_overrides./a.publisher.depth": 3})
    (refused,) = node.set_parameters([RclParameter("qos_overrides./a.publisher.depth", value=4)])
    assert not refused.successful and "read at the start" in refused.reason


def test_what_is_given_without_a_type_is_named(context: rclpy.Context) -> None:
    class Untyped(Node):
        def __init__(self, **arguments: Any) -> None:
            with named_overrides(self):
                super().__init__("untyped", context=context, **arguments)

    arguments = ["--ros-args", "-p", "rate:=1.5", "-p", "names:=[]"]
    with pytest.raises(ParameterError, match=r"'names' is given without a value, .* or write \[\"\"\]"):
        Untyped(cli_args=arguments, automatically_declare_parameters_from_overrides=True)
    with pytest.raises(ValueError, match=r"^else$"), named_overrides(SimpleNamespace()):  # type: ignore[arg-type]
        raise ValueError("else")
