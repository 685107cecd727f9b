"""The reasons that the code knows are those of the ROS interface."""

from __future__ import annotations

import re
from pathlib import Path

from exaone_ros.action.gate import Stop

DEFINITION = Path(__file__).parents[2] / "exaone_interfaces" / "action" / "RunPolicy.action"


def test_every_stop_reason_has_its_constant() -> None:
    constants = dict(re.findall(r'^string STOP_(\w+)="(\w+)"', DEFINITION.read_text(encoding="utf-8"), re.MULTILINE))
    assert constants == {stop.name: stop.value for stop in Stop}
