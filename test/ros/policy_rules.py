"""What an SROS 2 policy allows, as sets that can be compared."""

from __future__ import annotations

from xml.etree import ElementTree

Rule = tuple[str, str, str]
"""(enclave, what it may do, name)."""
GROUPS = ("topics", "services", "actions")
BY_RCLPY = ("parameters", "_type_description", "_parameter_types", "_state", "_states", "_transitions", "_graph",
            "transition_event", "_levels", "parameters_atomically")  # fmt: skip
"""How names end that rclpy itself opens below a node's name: they differ from one distribution to the next."""


def rules_of(policy: str) -> set[Rule]:
    """All that a policy allows, but for what rclpy itself serves under a node's name."""
    rules = set()
    for enclave in ElementTree.fromstring(policy.encode()).iter("enclave"):
        path = enclave.get("path") or ""
        for group in (group for tag in GROUPS for group in enclave.iter(tag)):
            names = [element.text or "" for element in group]
            rules |= {(path, rule, name) for name in names for rule in group.attrib if not is_by_rclpy(path, name)}
    return rules


def is_by_rclpy(path: str, name: str) -> bool:
    """True for a service or topic that every node or lifecycle node has under its own name."""
    return name.startswith(f"{path}/") and name.endswith(BY_RCLPY)
