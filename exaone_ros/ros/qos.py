"""QoS profiles, named after what they are for, and what a user may override of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.subscription import Subscription

from exaone_ros.ros.parameters import QOS_PREFIX, Parameter, ParameterError

Reliability = Literal["reliable", "best_effort"]


def newest_image(reliability: Reliability = "reliable") -> QoSProfile:
    """For subscribing to images: only the newest matters.

    Reliable by default although cameras are often best effort: with Fast DDS's own settings a 640x480 image is larger
    than its shared-memory segment, and best effort then loses every second image. A reliable subscription does not
    match a best-effort publisher; such a camera needs ``best_effort``.
    """
    return _keep_last(1, reliability)


def every_image(reliability: Reliability = "reliable") -> QoSProfile:
    """For subscribing to images of which each may matter: a few wait while one is being worked on."""
    return _keep_last(5, reliability)


def published_image() -> QoSProfile:
    """For publishing images: reliable, so that subscriptions of either kind match; few kept."""
    return _keep_last(2)


def answers() -> QoSProfile:
    """For detections, counts and decisions: none is lost, late comers get no old ones (old is not fresh)."""
    return _keep_last(10)


def streamed_text() -> QoSProfile:
    """For text that comes in pieces, each of which matters: as many wait for a slow reader as one answer has."""
    return _keep_last(1000)


def many_calls() -> QoSProfile:
    """For services that many may call at the same moment.

    With the ten that a service keeps otherwise, the eleventh call that comes while the executor is at something else is
    lost without a word: its client waits for ever.
    """
    return QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=1000,
    )


def diagnostics() -> QoSProfile:
    """For /diagnostics, as diagnostic_updater publishes it."""
    return _keep_last(10)


def latched() -> QoSProfile:
    """For what holds until it is said anew, e.g. the tasks: late comers get the newest."""
    return _keep_last(1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def _keep_last(
    depth: int, reliability: Reliability = "reliable", durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=_RELIABILITY[reliability], durability=durability
    )


def overridable(node: Node, topic: str, entity: str) -> QoSOverridingOptions | None:
    """Let parameters ``qos_overrides.<topic>.<publisher|subscription>.<history|depth|reliability>`` decide.

    Only those that were given: rclpy would declare the others for good, with the values of now, and a node that is
    configured anew with another `reliability` would still get the old one.

    Args:
        node: whose parameters they are.
        topic: fully qualified.
        entity: publisher or subscription.

    Raises:
        ParameterError: names the parameter, its value and what was expected; rclpy does not for all of them.
    """
    prefix = f"{QOS_PREFIX}{topic}.{entity}"
    given = node.get_parameters_by_prefix(prefix)
    kinds = [kind for name, kind in _POLICIES.items() if name in given]
    for policy in (policy for policy in _POLICIES if policy in given):
        _check_value(node, f"{prefix}.{policy}", policy)
    return QoSOverridingOptions(policy_kinds=kinds) if kinds else None


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
    """Refuse overrides that would have no effect, as a wrong topic name must not pass in silence, and bad values.

    Args:
        node: whose parameters are looked through.
        topics: (fully qualified topic, publisher or subscription) of all that may be overridden.

    Raises:
        ParameterError: names the parameter, and the topics that there are or the values that are allowed.
    """
    allowed = {f"{topic}.{entity}" for topic, entity in topics}
    for name in node.get_parameters_by_prefix(QOS_PREFIX.rstrip(".")):
        entity, _, policy = name.rpartition(".")
        if entity.startswith(("/parameter_events", "/rosout", "/clock")):
            continue  # rclpy's own
        if entity not in allowed or policy not in _POLICIES:
            raise ParameterError(
                f"'{QOS_PREFIX}{name}' has no effect; expected {QOS_PREFIX}<topic>.<{'|'.join(_POLICIES)}> with one of "
                f"{', '.join(sorted(allowed))}"
            )
        _check_value(node, f"{QOS_PREFIX}{name}", policy)


def _check_value(node: Node, name: str, policy: str) -> None:
    value = node.get_parameter(name).value
    replace(_ALLOWED[policy], name=name).checked(value.lower() if isinstance(value, str) else value)


class OverridableTopics:
    """Makes topics whose QoS the parameters of their node may override, and refuses overrides that fit none of them.

    Args:
        node: that publishes and subscribes; make it with ``automatically_declare_parameters_from_overrides=True``.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._names: set[tuple[str, str]] = set()

    def publisher(self, kind: type, topic: str, profile: QoSProfile) -> Any:
        """As `Node.create_publisher`; a lifecycle publisher where the node is a lifecycle node.

        Raises:
            ParameterError: the topic cannot be made as its overrides ask.
        """
        make = getattr(self._node, "create_lifecycle_publisher", self._node.create_publisher)
        name = self._expect(topic, "publisher")
        with named_override_faults(name):
            return make(kind, topic, profile, qos_overriding_options=overridable(self._node, name, "publisher"))

    def subscription(
        self, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile, **options: Any
    ) -> Subscription:
        """As `Node.create_subscription`.

        Raises:
            ParameterError: the topic cannot be made as its overrides ask.
        """
        name = self._expect(topic, "subscription")
        options["qos_overriding_options"] = overridable(self._node, name, "subscription")
        with named_override_faults(name):
            return self._node.create_subscription(kind, topic, callback, profile, **options)

    def expect_subscription(self, topic: str) -> None:
        """A subscription to this topic is made later, or now and then."""
        self._expect(topic, "subscription")

    def check(self) -> None:
        """Refuse overrides that fit none of the topics made or expected up to now.

        Raises:
            ParameterError: names the parameter and the topics that there are.
        """
        check_overrides(self._node, self._names)

    def _expect(self, topic: str, entity: str) -> str:
        name = self._node.resolve_topic_name(topic)
        self._names.add((name, entity))
        return name


_ALLOWED = {
    "history": Parameter("history", "keep_last", "", choices=("keep_last", "keep_all")),
    "depth": Parameter("depth", 10, "", minimum=1, maximum=1000),
    "reliability": Parameter(
        "reliability", "reliable", "", choices=("reliable", "best_effort", "best_available", "system_default")
    ),
}
_POLICIES = {"history": QoSPolicyKind.HISTORY, "depth": QoSPolicyKind.DEPTH, "reliability": QoSPolicyKind.RELIABILITY}
_RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
