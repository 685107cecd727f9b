"""Which Python runs the code of this repository, and with which variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = ROOT / "requirements"
FASTDDS_PROFILE = ROOT / "config" / "fastdds.xml"


@dataclass(frozen=True)
class Runtime:
    """A Python that can run the nodes.

    Attributes:
        distribution: the ROS 2 in it.
        python: the interpreter.
        variables: the whole environment to run it with.
        prefix: where CMake and ament find the ROS packages; None where the shell has sourced them.
    """

    distribution: str
    python: Path
    variables: Mapping[str, str]
    prefix: Path | None


def running_variables(base: Mapping[str, str]) -> dict[str, str]:
    """`base` with what the nodes want: this source tree, room for images in Fast DDS, rendering without a screen.

    What the caller has set already stays.
    """
    variables = dict(base)
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), base.get("PYTHONPATH", ""))))
    if "FASTDDS_DEFAULT_PROFILES_FILE" not in base and "FASTRTPS_DEFAULT_PROFILES_FILE" not in base:
        # Older releases of Fast DDS read the second name only, newer ones prefer the first.
        variables["FASTDDS_DEFAULT_PROFILES_FILE"] = str(FASTDDS_PROFILE)
        variables["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(FASTDDS_PROFILE)
    variables.setdefault("MUJOCO_GL", "egl")
    return variables
