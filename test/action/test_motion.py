"""Paths: they visit their postures, rest there, and keep to the speed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.action import motion

posture = st.lists(st.floats(-3, 3), min_size=2, max_size=2)


@settings(max_examples=100, deadline=None)
@given(postures=st.lists(posture, min_size=1, max_size=5), share=st.floats(0.1, 1.0))
def test_no_joint_is_faster_than_its_share(postures: list[list[float]], share: float) -> None:
    limit = np.array([1.0, 0.3])
    path = motion.through(postures, limit, share)
    times = np.linspace(0, path.duration_s + 0.1, 400)
    positions = path.at(times)
    speed = np.abs(np.diff(positions, axis=0)) / np.diff(times)[:, None]
    assert (speed <= limit * share * (1 + 1e-6) + 1e-9).all()
    assert positions[0] == pytest.approx(postures[0])
    assert positions[-1] == pytest.approx(postures[-1])


def test_visits_each_posture_at_rest_and_uses_its_share() -> None:
    path = motion.through([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]], [1.0, 1.0], share=0.5)
    assert path.times_s.tolist() == pytest.approx([0, 3.75, 5.625])
    assert path.at(path.times_s).tolist() == [pytest.approx(p) for p in ([0, 0], [1, 0], [1, 0.5])]
    around = path.at(path.times_s[1] + np.array([-0.01, 0.01]))
    assert np.abs(around - [1, 0]).max() < 1e-5  # it rests there
    middle = path.at(path.times_s[1] / 2 + np.array([-0.001, 0.001]))
    assert (middle[1, 0] - middle[0, 0]) / 0.002 == pytest.approx(0.5, rel=1e-3)
