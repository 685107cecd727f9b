"""MuJoCo with off-screen OpenGL: imported in one place, so that a machine without GL gets one clear error.

MuJoCo chooses its GL binding while it is imported, from the environment variable MUJOCO_GL. Everything in this package
that needs MuJoCo asks for it here.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from exaone_ros.errors import MissingExtra, require

GL_HELP = (
    "no off-screen OpenGL for MuJoCo (MUJOCO_GL={backend}): {reason}. On Debian or Ubuntu install the libraries with: "
    "sudo apt-get install libegl1 libgl1-mesa-dri"
)


def require_mujoco() -> ModuleType:
    """Import `mujoco`, with EGL as its OpenGL unless MUJOCO_GL says otherwise.

    Raises:
        MissingExtra: `mujoco` is not installed, or it found no OpenGL library (the message names the packages).
    """
    backend = os.environ.setdefault("MUJOCO_GL", "egl" if sys.platform == "linux" else "")
    try:
        return require("mujoco", "sim")
    except MissingExtra:
        raise
    except (ImportError, RuntimeError, AttributeError, OSError) as error:  # all seen from PyOpenGL without libEGL
        raise MissingExtra(GL_HELP.format(backend=backend, reason=error)) from error


def create_gl_context(width_px: int, height_px: int) -> Any:
    """Create MuJoCo's off-screen GL context; it belongs to the thread that makes it current.

    Raises:
        MissingExtra: OpenGL cannot be started (no driver, no device); the message names the Debian packages.
    """
    mujoco = require_mujoco()
    try:
        return mujoco.GLContext(width_px, height_px)
    except Exception as error:  # PyOpenGL's own types too, which cannot be named without importing it
        backend = os.environ.get("MUJOCO_GL", "")
        raise MissingExtra(GL_HELP.format(backend=backend, reason=f"{type(error).__name__}: {error}")) from error
