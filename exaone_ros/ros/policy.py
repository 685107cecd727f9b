"""What nodes talk to, as an SROS 2 policy (least privilege) and as a page of documentation. Knows no rclpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

Names = Mapping[str, str]
"""Fully qualified name -> type, e.g. ``/exaone/counts`` -> ``exaone_interfaces/msg/ObjectCounts``."""

RCL_TOPICS = ("/rosout", "/parameter_events", "/clock")
"""Topics that every node has to do with; they are no part of what it is for."""
RCL_OF_A_NODE = {
    "change_state", "describe_parameters", "get_available_states", "get_available_transitions", "get_parameter_types",
    "get_parameters", "get_state", "get_transition_graph", "get_type_description", "list_parameters", "set_parameters",
    "set_parameters_atomically", "transition_event",
}  # fmt: skip
"""Below the node's own name; what else stands there is ours."""


@dataclass(frozen=True)
class NodeGraph:
    """What one node talks to; names are fully qualified.

    Attributes:
        name: of the node.
        namespace: it stands in, ``/`` for none.
        publishes, subscribes: topics, those of actions left out.
        serves, calls: services, those of actions left out.
        executes: actions that it serves.
        sends: actions that it asks for.
    """

    name: str
    namespace: str
    publishes: Names
    subscribes: Names
    serves: Names
    calls: Names = field(default_factory=dict)
    executes: Names = field(default_factory=dict)
    sends: Names = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Fully qualified name of the node: also that of its enclave."""
        return f"{self.namespace.rstrip('/')}/{self.name}"

    def is_rcl(self, name: str) -> bool:
        """True for what every ROS node or lifecycle node brings along."""
        of_node = name.removeprefix(f"{self.path}/")
        return name in RCL_TOPICS or (of_node != name and of_node in RCL_OF_A_NODE)


def policy_xml(nodes: Sequence[NodeGraph]) -> str:
    """An SROS 2 policy, version 0.2.0: each node in an enclave of its own, allowed what it does and nothing else."""
    policy = ElementTree.Element("policy", version="0.2.0")
    enclaves = ElementTree.SubElement(policy, "enclaves")
    for node in nodes:
        enclave = ElementTree.SubElement(enclaves, "enclave", path=node.path)
        profiles = ElementTree.SubElement(enclave, "profiles")
        profile = ElementTree.SubElement(profiles, "profile", ns=node.namespace, node=node.name)
        # Under use_sim_time a node listens to /clock; whoever may not, stands still in time.
        subscribes = {**node.subscribes, "/clock": ""}
        for kind, item, rule, names in (
            ("topics", "topic", "publish", node.publishes),
            ("topics", "topic", "subscribe", subscribes),
            ("services", "service", "reply", node.serves),
            ("services", "service", "request", node.calls),
            ("actions", "action", "execute", node.executes),
            ("actions", "action", "call", node.sends),
        ):
            if names:
                group = ElementTree.SubElement(profile, kind, {rule: "ALLOW"})
                for name in sorted(names):
                    ElementTree.SubElement(group, item).text = name
    ElementTree.indent(policy)
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<!-- Written by `python -m exaone_ros.nodes.graph write` from what the nodes open: docs/security.md. -->\n"
    )
    return head + ElementTree.tostring(policy, encoding="unicode") + "\n"


def interfaces_page(nodes: Sequence[NodeGraph], meanings: Mapping[str, str]) -> str:
    """docs/interfaces.md: a table of topics, services and actions for each node.

    Args:
        nodes: in the order of the page.
        meanings: of names, by their last part or parts, e.g. ``ground_truth/detections``.
    """
    lines = [
        "# Topics, services and actions",
        "",
        "Written by `python -m exaone_ros.nodes.graph write`, from what the nodes open when all of their optional",
        "parts are on; a test holds it to them. Names are those in the namespace `exaone`, with the default topic",
        "names. Left out is what every ROS node has: services of parameters and lifecycle, `/rosout`,",
        "`/parameter_events`.",
        "",
    ]
    for node in nodes:
        lines += [f"## {node.name}", "", "| | name | type | |", "|---|---|---|---|"]
        for what, names in (
            ("in", node.subscribes),
            ("out", node.publishes),
            ("service", node.serves),
            ("calls", node.calls),
            ("action", node.executes),
            ("asks", node.sends),
        ):
            own = sorted((n, kind) for n, kind in names.items() if not node.is_rcl(n) or (what, n) == ("out", "/clock"))
            lines += [f"| {what} | `{name}` | {kind} | {_meaning(name, meanings)} |" for name, kind in own]
        lines.append("")
    return "\n".join(lines)


def _meaning(name: str, meanings: Mapping[str, str]) -> str:
    parts = name.strip("/").split("/")
    for first in range(len(parts)):
        found = meanings.get("/".join(parts[first:]))
        if found:
            return found
    return ""
