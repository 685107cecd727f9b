"""Nodes for a measurement: a DDS domain that they have to themselves, and their command lines."""

from __future__ import annotations

import os
from collections.abc import Mapping

from exaone_ros.ros.children import local_dds


def domain_of_its_own(offset: int = 0) -> dict[str, str]:
    """Environment of nodes in a DDS domain (1..100) that other runs on this machine are unlikely to use.

    Args:
        offset: another one for each group of nodes that this process starts.
    """
    return {"ROS_DOMAIN_ID": str(1 + (os.getpid() * 3 + offset) % 100), **local_dds()}


def node_arguments(namespace: str, values: Mapping[str, object]) -> list[str]:
    """Command line of a node in a namespace with these parameters."""
    arguments = ["--ros-args", "-r", f"__ns:={namespace}"]
    return [*arguments, *(item for key, value in values.items() for item in ("-p", f"{key}:={value}"))]
