"""The layouts for RViz and Foxglove name topics that our nodes publish, with the types that their panels show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
VIEWS = ROOT / "config" / "view"
SHOWN_BY_RVIZ = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
}


def published() -> dict[str, str]:
    """Topic -> type of everything that docs/interfaces.md, which is written from the nodes, has as `out`."""
    page = (ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| out \| `([^`]+)` \| ([^ ]+) \|", page, re.MULTILINE))


def topics_in(value: Any) -> Iterator[str]:
    """Every text of a layout that looks like a topic or a path into its messages."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from topics_in(key)
            yield from topics_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from topics_in(inner)
    elif isinstance(value, str) and value.startswith("/"):
        yield value.partition(".")[0]


def test_rviz_shows_what_is_published() -> None:
    layout = yaml.safe_load((VIEWS / "exaone.rviz").read_text(encoding="utf-8"))
    displays = [d for d in layout["Visualization Manager"]["Displays"] if "Topic" in d]
    assert len(displays) == 2
    for display in displays:
        assert published()[display["Topic"]["Value"]] == SHOWN_BY_RVIZ[display["Class"]]


def test_foxglove_shows_what_is_published() -> None:
    layout = json.loads((VIEWS / "exaone_foxglove.json").read_text(encoding="utf-8"))
    topics = set(topics_in(layout))
    assert len(topics) >= 4 and topics <= set(published())
    panels = set(re.findall(r'"(\w+!\w+)"', json.dumps(layout["layout"])))
    assert panels == set(layout["configById"])


def test_the_fields_that_foxglove_plots_exist() -> None:
    layout = json.loads((VIEWS / "exaone_foxglove.json").read_text(encoding="utf-8"))
    for path in layout["configById"]["Plot!chances"]["paths"]:
        topic, field, *_ = path["value"].split(".")
        package, _, name = published()[topic].split("/")
        message = (ROOT / package / "msg" / f"{name}.msg").read_text(encoding="utf-8")
        # A number as it is: sec and nanosec of a duration are two fields, and each alone is wrong.
        assert re.search(rf"^float(32|64)\[\] {field.removesuffix('[:]')}\b", message, re.MULTILINE)
