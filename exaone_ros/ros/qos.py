"""QoS profiles, named after what they are for."""

from __future__ import annotations

from typing import Literal

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

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


_RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
