"""The order of patches is that of transformers' window attention, whether the grid fits its windows or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model.tiny_checkpoint import tiny_config

from exaone_ros.model.config import ModelConfig
from exaone_ros.model.vision_plan import vision_plan

CONFIG = ModelConfig.parse(tiny_config()).vision


@settings(deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20))
def test_windows_are_those_of_transformers(height: int, width: int) -> None:
    torch = pytest.importorskip("torch")
    vision_utils = pytest.importorskip("transformers.vision_utils")
    grid = torch.tensor([[1, height * 2, width * 2]])
    window_index, boundaries = vision_utils.get_vision_window_index(grid, 2, 112, 14)
    plan = vision_plan(CONFIG, height, width)
    np.testing.assert_array_equal(plan.patch_index[::4] // 4, window_index.numpy())
    np.testing.assert_array_equal(plan.reverse, np.argsort(window_index.numpy()))
    lengths = plan.key_mask[:, 0, 0].sum(axis=1)
    np.testing.assert_array_equal(np.cumsum(lengths[lengths > 0]), boundaries.numpy()[1:])


@settings(deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20))
def test_padding_and_back_is_the_identity(height: int, width: int) -> None:
    plan = vision_plan(CONFIG, height, width)
    rows = np.arange(plan.tokens * 4)
    padded = rows[plan.pad_index]
    np.testing.assert_array_equal(padded[plan.unpad_index], rows)
    assert plan.key_mask.reshape(-1)[plan.unpad_index].all()
    assert plan.key_mask.sum() == len(rows)
    assert sorted(plan.patch_index) == list(range(len(rows)))


@pytest.mark.parametrize(("height", "width"), [(4, 8), (9, 12), (1, 7)])
def test_rotation_is_that_of_transformers(height: int, width: int) -> None:
    torch = pytest.importorskip("torch")
    modeling = pytest.importorskip("transformers.models.exaone4_5.modeling_exaone4_5")
    from transformers import Exaone4_5_Config
    from transformers.vision_utils import get_vision_position_ids

    rotary = modeling.Exaone4_5_VisionRotaryEmbedding(Exaone4_5_Config(**tiny_config()).vision_config)
    cos, sin = rotary(torch.zeros(1), get_vision_position_ids(torch.tensor([[1, height * 2, width * 2]]), 2))
    plan = vision_plan(CONFIG, height, width)
    half = CONFIG.head_dim // 2
    np.testing.assert_allclose(plan.cos, cos.numpy()[plan.patch_index, :half], atol=1e-6)
    np.testing.assert_allclose(plan.sin, sin.numpy()[plan.patch_index, :half], atol=1e-6)


def test_a_plan_is_made_once_and_cannot_be_changed() -> None:
    plan = vision_plan(CONFIG, 3, 5)
    assert vision_plan(CONFIG, 3, 5) is plan
    with pytest.raises(ValueError, match="read-only"):
        plan.reverse[0] = 1
