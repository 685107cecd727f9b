"""Heads of other packages: found by their entry points, so that a policy of one's own needs no change here.

A package declares its heads where it declares its commands, in setup.py or pyproject.toml::

    entry_points={"exaone_ros.action.heads": ["my_policy = my_package.head:make"]}

`make` is a class or function; it gets the robot's `ActionSpec` and returns an `ActionHead`.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from exaone_ros.action.heads.base import ActionHead
from exaone_ros.action.spec import ActionSpec
from exaone_ros.action.words import described
from exaone_ros.errors import ActionError, ExaoneError

GROUP = "exaone_ros.action.heads"
"""Of the entry points. Nothing else is imported, whoever may set a node's parameters."""


def plugin_head(name: str, spec: ActionSpec) -> ActionHead:
    """The head that an installed package declares under `name`, made for a robot.

    Raises:
        ActionError: none or several packages declare it, it cannot be made, or what is made is no head.
    """
    declared = {(entry.name, entry.value): entry for entry in entry_points(group=GROUP)}
    found = [entry for (declared_name, _), entry in declared.items() if declared_name == name]
    if len(found) != 1:
        names = ", ".join(sorted(f"'{declared_name}' ({value})" for declared_name, value in declared)) or "none"
        many = "no installed package declares" if not found else f"{len(found)} installed packages declare"
        raise ActionError(f"{many} a head '{name}'; expected one entry point of group '{GROUP}'; there are: {names}")
    where = f"head '{name}' ({found[0].value})"
    try:
        head: ActionHead = found[0].load()(spec)
    except ExaoneError:
        raise
    except Exception as error:  # somebody else's code
        raise ActionError(f"{where} cannot be made: {described(error)}") from error
    lacking = [part for part in ("name", "spec", "reset", "predict") if not hasattr(head, part)]
    if lacking:
        raise ActionError(f"{where} is a {type(head).__name__} without '{lacking[0]}'; see heads/base.py")
    if not isinstance(head.spec, ActionSpec) or not isinstance(head.name, str):
        raise ActionError(
            f"{where} has name {head.name!r} and spec {head.spec!r:.60}; expected a text and an ActionSpec"
        )
    return head
