"""A window on a running world: MuJoCo's own viewer, where there is a display."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from exaone_ros.errors import MissingExtra, SimulationError, require
from exaone_ros.sim.world import World

_PERIOD_S = 1 / 30


def check_display(environment: Mapping[str, str] | None = None) -> None:
    """Refuse where no window can be opened.

    Raises:
        SimulationError: Linux without a display.
    """
    variables = os.environ if environment is None else environment
    if sys.platform == "linux" and not (variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY")):
        raise SimulationError(
            "viewer is true, but there is no display: neither DISPLAY nor WAYLAND_DISPLAY is set. Start the simulator "
            "in a desktop session (or through ssh -X), or leave the viewer out and look at head_camera/image_raw"
        )


class Viewer:
    """Shows a world from outside until its window is closed; the world goes on then.

    Args:
        world: what to show. `update` is to be called in the thread that steps it.

    Raises:
        SimulationError: there is no display.
        MissingExtra: MuJoCo's viewer cannot be imported.
    """

    def __init__(self, world: World) -> None:
        check_display()
        self._world = world
        self._due_s = 0.0
        try:
            viewer = require("mujoco.viewer", "sim")
        except (ImportError, OSError) as error:
            raise MissingExtra(f"MuJoCo's viewer cannot start: {error}; install libglfw3 and libgl1") from error
        with world.paused() as (model, data):
            self._window: Any = viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False)

    def update(self) -> None:
        """Show the world as it is now, 30 times a second at most."""
        now_s = time.monotonic()
        if now_s < self._due_s or not self._window.is_running():
            return
        self._due_s = now_s + _PERIOD_S
        with self._world.paused():
            self._window.sync()

    def close(self) -> None:
        """Close the window; may be called twice."""
        self._window.close()
