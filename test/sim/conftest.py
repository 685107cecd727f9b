"""Renderers are expensive to start: one small one serves all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exaone_ros.sim.tabletop import TabletopRenderer


@pytest.fixture(scope="session")
def renderer() -> Iterator[TabletopRenderer]:
    with TabletopRenderer(320, 240, samples=0) as tabletop:
        yield tabletop
