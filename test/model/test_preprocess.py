"""Frames are cut as transformers' own processor cuts them, and unusable ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from model.tiny_checkpoint import tiny_config

from exaone_ros.errors import CheckpointError, ImageError
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.preprocess import (
    PreprocessConfig,
    fold_patch_embedding,
    patchify,
    preprocess,
    resize,
    smart_resize,
)

VISION = ModelConfig.parse(tiny_config()).vision
DEFAULT = PreprocessConfig.parse({}, VISION)
PINNED = PreprocessConfig.parse({"size": {"shortest_edge": 78000, "longest_edge": 84800}}, VISION)


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coloured shapes with hard edges and a little noise: harder to resize than a photograph."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120, np.int16)
    for _ in range(40):
        y, x = rng.integers(0, height), rng.integers(0, width)
        image[y : y + rng.integers(5, 90), x : x + rng.integers(5, 90)] = rng.integers(0, 255, 3)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def test_the_default_is_that_of_transformers() -> None:
    qwen = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    theirs = qwen.Qwen2VLImageProcessorPil()
    assert (DEFAULT.min_px, DEFAULT.max_px) == (theirs.size["shortest_edge"], theirs.size["longest_edge"])
    assert DEFAULT.mean == tuple(theirs.image_mean)
    assert DEFAULT.std == tuple(theirs.image_std)
    assert DEFAULT.scale == pytest.approx(theirs.rescale_factor)


@settings(deadline=None)
@given(
    height=st.integers(1, 3000), width=st.integers(1, 3000), low=st.integers(784, 90_000), extra=st.integers(0, 900_000)
)
def test_smart_resize_is_that_of_transformers(height: int, width: int, low: int, extra: int) -> None:
    qwen = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    assume(max(height, width) <= 200 * min(height, width))
    config = PreprocessConfig.parse({"size": {"shortest_edge": low, "longest_edge": low + extra}}, VISION)
    expected = qwen.smart_resize(height, width, 28, config.min_px, config.max_px)
    try:
        found = smart_resize(config, height, width)
    except ImageError:
        assert expected[0] * expected[1] > config.max_px, "refused only where transformers exceeds its own limit"
        return
    assert found == expected
    assert found[0] * found[1] // 784 <= config.max_visual_tokens


@settings(deadline=None)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000), most=st.integers(1, 400))
def test_an_image_is_shrunk_to_the_visual_tokens_that_it_may_take(height: int, width: int, most: int) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    plain, bound = smart_resize(PINNED, height, width), PINNED.within(most)
    try:
        found = smart_resize(bound, height, width)
    except ImageError:
        assert max(height, width) > most * min(height, width), "too long and thin for so few tokens"
        return
    assert found == plain or plain[0] * plain[1] > most * 784, "what fits stays as the checkpoint wants it"
    assert found[0] * found[1] // 784 <= min(most, bound.max_visual_tokens)


def test_a_shrunk_image_keeps_its_aspect() -> None:
    assert smart_resize(DEFAULT.within(300), 1080, 1920) == (12 * 28, 23 * 28)
    assert smart_resize(PINNED.within(60), 480, 640) == (6 * 28, 8 * 28), "below the checkpoint's least, too"


def test_the_lesser_bound_holds() -> None:
    assert DEFAULT.within(0) == DEFAULT
    assert DEFAULT.within(300).within(40).max_visual_tokens == DEFAULT.within(40).within(300).max_visual_tokens == 40


def test_camera_sizes() -> None:
    real = PreprocessConfig.parse({"size": {"shortest_edge": 3136, "longest_edge": 3211264}}, VISION)
    assert smart_resize(real, 480, 640) == (476, 644)
    assert smart_resize(PINNED, 480, 640) == (252, 336)
    assert smart_resize(PINNED, 720, 1280) == (196, 364)


@pytest.mark.parametrize(("height", "width"), [(252, 336), (224, 364), (56, 28 * 50)])
def test_patches_are_those_of_transformers(height: int, width: int) -> None:
    """Without resizing, folded normalisation on uint8 equals normalising first."""
    qwen = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    image = scene(height, width)
    theirs = qwen.Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 200_000})(images=[image])
    patches, grid = preprocess(image, DEFAULT)
    assert (1, grid[0] * 2, grid[1] * 2) == tuple(theirs["image_grid_thw"][0])
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(32, 3, 2, 14, 14)).astype(np.float32)
    folded, bias = fold_patch_embedding(weight, DEFAULT)
    found = patches.astype(np.float32) @ folded.T + bias
    expected = np.asarray(theirs["pixel_values"]) @ weight.reshape(32, -1).T
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


@pytest.mark.parametrize(
    ("source", "target"),
    [((480, 640), (252, 336)), ((480, 640), (476, 644)), ((720, 1280), (196, 364)), ((240, 320), (252, 336))],
)
def test_resizing_stays_close_to_pillow(source: tuple[int, int], target: tuple[int, int]) -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = scene(*source)
    expected = np.asarray(pillow.fromarray(image).resize(target[::-1], pillow.Resampling.BICUBIC)).astype(int)
    error = np.abs(resize(image, *target).astype(int) - expected)
    assert error.mean() < 0.8, "mean error in grey levels"
    assert np.percentile(error, 99) <= 5


@settings(deadline=None)
@given(grid_h=st.integers(1, 6), grid_w=st.integers(1, 6), seed=st.integers(0, 9))
def test_patchify_keeps_every_pixel_at_its_place(grid_h: int, grid_w: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (grid_h * 28, grid_w * 28, 3), dtype=np.uint8)
    patches = patchify(image, 14, 2)
    assert patches.shape == (grid_h * grid_w * 4, 588)
    for index in (0, len(patches) - 1, len(patches) // 2):
        token, inside = divmod(index, 4)
        y, x = (token // grid_w) * 28 + (inside // 2) * 14, (token % grid_w) * 28 + (inside % 2) * 14
        np.testing.assert_array_equal(
            patches[index].reshape(3, 14, 14), image[y : y + 14, x : x + 14].transpose(2, 0, 1)
        )


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ([[1]], "is a list"),
        (np.zeros((4, 4, 3), np.float32), "float32 [4, 4, 3]"),
        (np.zeros((4, 4), np.uint8), "uint8 [4, 4]"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 [4, 4, 4]"),
        (np.zeros((0, 4, 3), np.uint8), "4 x 0 px"),
        (np.zeros((4, 0, 3), np.uint8), "0 x 4 px"),
        (np.broadcast_to(np.uint8(0), (4, 20_000, 3)), "20000 x 4 px; expected sides"),
        (np.zeros((2, 500, 3), np.uint8), "aspect ratio above 200"),
        (np.zeros((20, 3900, 3), np.uint8), "crop the image"),
    ],
)
def test_an_unusable_image_is_refused(image: Any, said: str) -> None:
    small = PreprocessConfig.parse({"size": {"shortest_edge": 3136, "longest_edge": 8000}}, VISION)
    with pytest.raises(ImageError) as error:
        preprocess(image, small)
    assert said in str(error.value)


def test_the_smallest_image_is_taken() -> None:
    assert preprocess(np.zeros((1, 1, 3), np.uint8), DEFAULT)[1] == (2, 2)


def test_a_view_that_is_not_contiguous_is_taken() -> None:
    image = scene(504, 672)
    expected, _ = preprocess(np.ascontiguousarray(image[::-2, ::2]), DEFAULT)
    found, _ = preprocess(image[::-2, ::2], DEFAULT)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("raw", "low", "high"),
    [
        ({"min_pixels": 1000, "max_pixels": 5000}, 1000, 5000),
        ({"size": {"min_pixels": 1000, "max_pixels": 5000}}, 1000, 5000),
        ({"size": {"shortest_edge": 1000, "longest_edge": 5000}}, 1000, 5000),
        ({"size": {"shortest_edge": 1}, "max_pixels": 5000}, 1, 5000),
    ],
)
def test_all_spellings_of_the_size(raw: dict[str, Any], low: int, high: int) -> None:
    config = PreprocessConfig.parse(raw, VISION)
    assert (config.min_px, config.max_px) == (low, high)


def test_what_is_switched_off_does_nothing() -> None:
    config = PreprocessConfig.parse({"do_normalize": False, "do_rescale": False}, VISION)
    assert (config.mean, config.std, config.scale) == ((0.0,) * 3, (1.0,) * 3, 1.0)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"patch_size": 16}, "patch_size is 16"),
        ({"merge_size": 4}, "merge_size is 4"),
        ({"temporal_patch_size": 1}, "temporal_patch_size is 1"),
        ({"size": {"shortest_edge": 5000, "longest_edge": 1000}}, "5000 to 1000"),
        ({"size": {"shortest_edge": "small", "longest_edge": 1000}}, "'small'"),
        ({"size": {"shortest_edge": 10, "longest_edge": 100}}, "at most 100 px"),
        ({"image_mean": [0.5]}, "[0.5]"),
        ({"image_mean": "bright"}, "'bright'"),
        ({"image_std": [0.5, 0.0, 0.5]}, "must be positive"),
        ({"do_resize": False}, "do_resize"),
        ({"resample": 0}, "resample is 0"),
        ({"size": [3136, 200_000]}, "size is [3136, 200000]; expected an object"),
        ({"image_mean": [10**400, 0.5, 0.5]}, "image_mean [1000"),
        ({"rescale_factor": "1/255"}, "rescale_factor '1/255'"),
    ],
)
def test_a_wrong_value_is_named(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError) as error:
        PreprocessConfig.parse(raw, VISION, where="the/file")
    assert said in str(error.value)
    assert "the/file" in str(error.value)


def test_the_joint_file_of_newer_releases(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json is missing"):
        PreprocessConfig.read(tmp_path, VISION)
    for raw in ({}, {"image_processor": [1]}):
        (tmp_path / "processor_config.json").write_text(json.dumps(raw))
        with pytest.raises(CheckpointError, match=r"processor_config\.json: 'image_processor' is "):
            PreprocessConfig.read(tmp_path, VISION)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"max_pixels": 4444}}))
    assert PreprocessConfig.read(tmp_path, VISION).max_px == 4444
