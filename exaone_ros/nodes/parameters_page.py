"""docs/parameters.md, written from the parameters as the nodes declare them; a test holds the page to it.

`python -m exaone_ros.nodes.parameters_page > docs/parameters.md`
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.ros import action_settings, companion_settings, perception_settings
from exaone_ros.ros.parameters import Parameter

HEAD = """\
# Parameters

Written by `python -m exaone_ros.nodes.parameters_page`: edit the declarations in the code, not this page.

A value that is not allowed, or a name that does not exist, keeps a node from being configured; the log and
`/diagnostics` then name every fault at once. *Changes* says when a new value is taken: **live** ones at any time, at
once; the rest when the node is configured. Setting one of those while the node is configured is refused with that
reason. A set of changes (`set_parameters_atomically`) is taken as a whole or not at all. ROS itself tells types apart
while a node runs: a float is set as `2.0`, not as `2` (at the start either will do). A list without entries is `[""]`:
an empty one has no type in ROS, and ends the start.

```
ros2 param describe /exaone/perception max_age_s
ros2 param set /exaone/perception max_age_s 0.5
```
"""

CAMERAS = """\
Each name in `cameras` has these besides:
"""

QOS = """\
## QoS

The quality of service of topics can be overridden by ROS's own parameters, by the fully qualified name of the topic:
on the perception node its image subscriptions and answers; on the companion, the action head, the simulator,
`rerun_view` and `replay` every topic but `/diagnostics`, `/clock`, and the action head's `estop` and `heartbeat`, which
are not to be weakened. They can only be given at the start, and win over `reliability`. A name that fits no topic, or a
policy other than these three, keeps a lifecycle node from being configured, and another node from starting.

```yaml
/exaone/perception:
  ros__parameters:
    qos_overrides:
      /exaone/image_raw:
        subscription: {reliability: best_effort}
      /exaone/detections:
        publisher: {reliability: best_effort, history: keep_last, depth: 1}
```

| policy | values |
|---|---|
| `reliability` | `reliable`, `best_effort`, `best_available` (as whoever is on the other side), `system_default` |
| `history` | `keep_last`, `keep_all` |
| `depth` | 1 to 1000 |
"""


def row(parameter: Parameter, read: str) -> str:
    """One line of a table; `read` says when a parameter that is not live is read."""
    unit = f" {parameter.unit}" if parameter.unit else ""
    shown = f"`{_text(parameter.default)}`{unit}" if parameter.default not in ("", ("",)) else ""
    if parameter.choices:
        allowed = ", ".join(f"`{choice}`" if choice else "empty" for choice in parameter.choices)
    else:
        allowed = "" if parameter.minimum is None else f"{parameter.minimum:g} to {parameter.maximum:.10g}{unit}"
    kind = "list of str" if isinstance(parameter.default, tuple) else type(parameter.default).__name__
    when = "**live**" if parameter.live else read
    return f"| `{parameter.name}` | {kind} | {shown} | {allowed} | {when} | {parameter.description} |"


def table(parameters: Sequence[Parameter], read: str) -> str:
    """A Markdown table of parameters."""
    rows = [row(parameter, read) for parameter in parameters]
    return "\n".join(
        ["| parameter | type | default | allowed | changes | meaning |", "|---|---|---|---|---|---|", *rows, ""]
    )


def page() -> str:
    """The whole of docs/parameters.md."""
    from exaone_ros.nodes import rerun_view, simulator

    return (
        "\n".join(
            [
                HEAD,
                "## perception\n",
                table(perception_settings.PARAMETERS, "at configure"),
                CAMERAS,
                table(perception_settings.camera_parameters("<camera>"), "at configure"),
                QOS,
                "## action_head\n",
                table(action_settings.PARAMETERS, "at configure"),
                "## companion\n",
                "No lifecycle node: all of its parameters are read once, at the start.\n",
                table(companion_settings.PARAMETERS, "at start"),
                "## rerun_view\n",
                "No lifecycle node: all of its parameters are read once, at the start.\n",
                table(rerun_view.PARAMETERS, "at start"),
                "## simulator\n",
                "No lifecycle node: all of its parameters are read once, at the start.\n",
                table(simulator.PARAMETERS, "at start"),
            ]
        ).rstrip("\n")
        + "\n"
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)


@ends_with_its_reader
def run_alone() -> int:
    """Print the page, in a process of its own; returns 0."""
    sys.stdout.write(page())
    return 0


if __name__ == "__main__":
    sys.exit(run_alone())
