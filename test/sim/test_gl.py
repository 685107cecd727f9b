"""A machine without OpenGL gets one clear error, which names the packages to install."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("mujoco")

RENDER = """
import exaone_ros.errors as errors
{before}
try:
    from exaone_ros.sim.tabletop import TabletopRenderer
    TabletopRenderer(64, 48)
except errors.MissingExtra as error:
    print("refused:", error)
"""

NO_LIBRARY = """
import ctypes
load = ctypes.CDLL.__init__
def refuse(self, name, *rest, **more):
    if name and "EGL" in str(name):
        raise OSError("libEGL.so.1: cannot open shared object file")
    load(self, name, *rest, **more)
ctypes.CDLL.__init__ = refuse
import ctypes.util
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if "EGL" in name else find(name)
"""

NO_MUJOCO = "import sys; sys.modules['mujoco'] = None"


def refusal(before: str = "", **environment: str) -> str:
    """What a fresh Python says when it is asked to render."""
    done = subprocess.run(
        [sys.executable, "-c", RENDER.format(before=before)], env={**os.environ, "MUJOCO_GL": "egl", **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("refused:"), done.stdout + done.stderr
    return done.stdout


def test_no_egl_library() -> None:
    message = refusal(NO_LIBRARY)
    assert "libegl1" in message and "libgl1-mesa-dri" in message


def test_library_without_a_driver() -> None:
    message = refusal(__EGL_VENDOR_LIBRARY_DIRS="/nonexistent")
    assert "libegl1" in message and "libgl1-mesa-dri" in message


def test_no_mujoco() -> None:
    assert "exaone_ros[sim]" in refusal(NO_MUJOCO)
