"""Faults of a camera are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from exaone_ros.sim.faults import FaultyCamera


def picture(level: int) -> np.ndarray:
    return np.full((2, 3, 3), level, np.uint8)


def test_each_fault_delivers_what_it_says() -> None:
    camera = FaultyCamera()
    assert camera.deliver(1, picture(10), "none") == (1, pytest.approx(picture(10)))
    assert camera.deliver(2, picture(20), "stalled") is None
    assert camera.deliver(3, picture(30), "repeated") == (1, pytest.approx(picture(10)))
    assert camera.deliver(4, picture(40), "frozen") == (4, pytest.approx(picture(10)))
    assert camera.deliver(5, picture(50), "black") == (5, pytest.approx(picture(0)))
    assert camera.deliver(6, picture(60), "none") == (6, pytest.approx(picture(60)))
    assert camera.deliver(7, picture(70), "frozen") == (7, pytest.approx(picture(60)))


def test_a_camera_that_is_frozen_from_the_start_has_its_first_image() -> None:
    camera = FaultyCamera()
    assert camera.deliver(1, picture(10), "frozen") == (1, pytest.approx(picture(10)))
    assert camera.deliver(2, picture(20), "frozen") == (2, pytest.approx(picture(10)))


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(ValueError, match="fogged"):
        FaultyCamera().deliver(1, picture(1), "fogged")
