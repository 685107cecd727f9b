"""Topics that are named after another: who remaps a camera's images means their compressed kin and camera_info, too.

As `image_transport` has it: `-r image_raw:=/cam/image` moves `image_raw/compressed` to `/cam/image/compressed`, and the
`camera_info` to `/cam/camera_info`. ROS itself remaps whole names only. A rule for the very name of a topic wins.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node

_COMPRESSED = "/compressed"


def compressed_topic(node: Node, images: str) -> str:
    """The topic of compressed images, to publish or subscribe to.

    Args:
        node: whose remappings hold.
        images: topic of the images, with /compressed or without, as the node names it.
    """
    return _following(node, images.removesuffix(_COMPRESSED), lambda name: name + _COMPRESSED)


def camera_info_topic(node: Node, images: str) -> str:
    """The topic of camera_info, beside that of the images; arguments as above."""

    def beside(name: str) -> str:
        above, slash, _ = name.rpartition("/")
        return f"{above}{slash}camera_info"

    return _following(node, images.removesuffix(_COMPRESSED), beside)


def _following(node: Node, base: str, derived: Callable[[str], str]) -> str:
    own = derived(base)
    if _remapped(node, own) or not _remapped(node, base):
        return own
    return derived(node.resolve_topic_name(base))


def _remapped(node: Node, topic: str) -> bool:
    return node.resolve_topic_name(topic) != node.resolve_topic_name(topic, only_expand=True)
