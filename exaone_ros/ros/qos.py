"""QoS profiles, named after what they are for, and what a user may override of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from exaone_ros.ros.parameters import QOS_PREFIX, ParameterError

Reliability = Literal["reliable", "best_effort"]


def newest_image(reliability: Reliability = "reliable") -> QoSProfile:
    """For subscribing to images: only the newest matters.

    Reliable by default although cameras are often best effort: with Fast DDS's own settings a 640x480 image is larger
    than its shared-memory segment, and best effort then loses every second image. A reliable subscription does not
    match a best-effort publisher; such a camera needs ``best_effort``.
    """
    return QoSProfile(
        reliability=_RELIABILITY[reliability],
        durability=DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
    )


def every_image(reliability: Reliability = "reliable") -> QoSProfile:
    """For subscribing to images of which each may matter: a few wait while one is being worked on."""
    return QoSProfile(
        reliability=_RELIABILITY[reliability],
        durability=DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=5,
    )


def published_image() -> QoSProfile:
    """For publishing images: reliable, so that subscriptions of either kind match; few kept."""
    return QoSProfile(reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST, depth=2)


def answers() -> QoSProfile:
    """For detections, counts and decisions: none is lost, late comers get no old ones (old is not fresh)."""
    return QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=10,
    )


def diagnostics() -> QoSProfile:
    """For /diagnostics, as diagnostic_updater publishes it."""
    return QoSProfile(reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST, depth=10)


def latched() -> QoSProfile:
    """For what holds until it is said anew, e.g. the tasks: late comers get the newest."""
    return QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
    )


def overridable() -> QoSOverridingOptions:
    """Let parameters ``qos_overrides.<topic>.<publisher|subscription>.<history|depth|reliability>`` decide."""
    return QoSOverridingOptions.with_default_policies(callback=_judge_override)


@contextmanager
def named_override_faults(topic: str) -> Iterator[None]:
    """Turn what rclpy raises for a bad override, of whatever type that is, into one that names the topic.

    Raises:
        ParameterError: the topic cannot be made as its overrides ask.
    """
    try:
        yield
    except (InvalidQosOverridesError, RuntimeError, AssertionError, ValueError, TypeError, AttributeError) as error:
        raise ParameterError(f"topic '{topic}' with its parameters '{QOS_PREFIX}{topic}...': {error}") from error


def check_overrides(node: Node, topics: Collection[tuple[str, str]]) -> None:
    """Refuse overrides that would have no effect: a wrong topic name must not pass in silence.

    Args:
        node: whose parameters are looked through.
        topics: (fully qualified topic, publisher or subscription) of all that may be overridden.

    Raises:
        ParameterError: names the parameter and the topics that there are.
    """
    allowed = {f"{topic}.{entity}" for topic, entity in topics}
    policies = ("history", "depth", "reliability")
    for name in node.get_parameters_by_prefix(QOS_PREFIX.rstrip(".")):
        entity, _, policy = name.rpartition(".")
        if entity.startswith(("/parameter_events", "/rosout", "/clock")):
            continue  # rclpy's own
        if entity not in allowed or policy not in policies:
            raise ParameterError(
                f"'{QOS_PREFIX}{name}' has no effect; expected {QOS_PREFIX}<topic>.<{'|'.join(policies)}> with one of "
                f"{', '.join(sorted(allowed))}"
            )


def _judge_override(profile: QoSProfile) -> SetParametersResult:
    if profile.history == HistoryPolicy.KEEP_LAST and not 1 <= profile.depth <= 1000:
        return SetParametersResult(successful=False, reason=f"depth is {profile.depth}; expected 1 to 1000")
    if profile.history not in (HistoryPolicy.KEEP_LAST, HistoryPolicy.KEEP_ALL):
        return SetParametersResult(successful=False, reason="history: expected keep_last or keep_all")
    return SetParametersResult(successful=True)


_RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
