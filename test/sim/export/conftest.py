"""One compiled model serves all tests of this folder."""

from __future__ import annotations

import pytest

from exaone_ros.sim.model import TabletopModel


@pytest.fixture(scope="session")
def tabletop() -> TabletopModel:
    pytest.importorskip("mujoco")
    return TabletopModel()
