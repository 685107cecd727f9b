"""What a learned head sees: the hidden states are those of the reference, and the right ones are picked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx  # noqa: F401  (the tests need it; without it they are not collected)
import onnxruntime  # noqa: F401
import pytest
from model.tiny_checkpoint import random_weights, write_safetensors
from numpy.typing import NDArray

from exaone_ros.engine.features import TAIL, HiddenStates, features_like, open_features
from exaone_ros.errors import EngineError, ImageError

BUNDLED = Path(__file__).parents[2] / "models" / "exaone4_5-tabletop-tiny"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One like the bundled checkpoint, with random weights."""
    folder = shutil.copytree(BUNDLED, tmp_path_factory.mktemp("checkpoint") / "random")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_safetensors(folder / "model.safetensors", random_weights(config))
    return folder


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)


@pytest.fixture(scope="module")
def states(checkpoint: Path) -> HiddenStates:
    return HiddenStates(checkpoint)


def test_the_image_s_part_knows_only_the_image_and_the_tail_the_instruction(
    states: HiddenStates, image: NDArray[np.uint8]
) -> None:
    red, blue = (states(image, f"pick the {colour} cube") for colour in ("red", "blue"))
    again = states(image, "pick the red cube")
    assert red.dtype == np.float32 and red.shape == blue.shape
    assert (red == again).all()
    assert red[:-TAIL] == pytest.approx(blue[:-TAIL], abs=1e-5)  # what stands before the instruction
    assert np.abs(red[-TAIL:] - blue[-TAIL:]).max() > 1e-2
    other = states(255 - image, "pick the red cube")
    assert np.abs(red[-TAIL:] - other[-TAIL:]).max() > 1e-3  # it looked back at the image


def test_they_are_the_last_hidden_states_that_the_logits_come_from(
    states: HiddenStates, checkpoint: Path, image: NDArray[np.uint8]
) -> None:
    from exaone_ros.engine.backend import Row
    from exaone_ros.engine.backends import open_backend
    from exaone_ros.model.chat import PromptEncoder
    from exaone_ros.model.checkpoint import Checkpoint
    from exaone_ros.tasks import SYSTEM

    opened = Checkpoint.open(checkpoint)
    prompts = PromptEncoder.open(checkpoint, opened.config)
    backend = open_backend("onnxruntime", checkpoint, slots=2, context=512, threads=1)
    seen = backend.encode(image)
    tokens = np.concatenate([prompts.prefix([seen.count], SYSTEM), prompts.suffix("pick it", system=SYSTEM)])
    (logits,) = backend.run([Row(0, 0, tokens, (seen,), TAIL)])
    backend.close()
    expected = states(image, "pick it")[-TAIL:] @ opened.read("lm_head.weight").T
    assert np.abs(logits - expected).max() < 1e-3 * np.abs(logits).max()


def test_a_head_works_with_the_checkpoint_it_was_trained_on(states: HiddenStates, checkpoint: Path) -> None:
    assert features_like({"kind": "hidden_states", "source": states.source}, checkpoint).source == states.source
    with pytest.raises(EngineError, match=r"trained on hidden states of checkpoint 0123; .* train it anew"):
        features_like({"kind": "hidden_states", "source": "0123"}, checkpoint)
    with pytest.raises(EngineError, match="features are 'smell'; expected"):
        features_like({"kind": "smell", "source": ""})
    with pytest.raises(EngineError, match="need the directory"):
        open_features("hidden_states")


def test_the_colour_grid_is_what_it_says() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:2, 2:4, 0] = 255
    grid = open_features("colour_grid")(image, "whatever")
    assert grid.shape == (64, 3)
    assert grid[1].tolist() == [1.0, -1.0, -1.0]
    assert (np.delete(grid, 1, axis=0) == -1.0).all()


@pytest.mark.parametrize("height", [1, 3, 7, 20])
@pytest.mark.parametrize("width", [1, 5, 8, 20])
def test_the_colour_grid_of_a_tiny_image_repeats_its_pixels(height: int, width: int) -> None:
    image = np.full((height, width, 3), 51, np.uint8)
    image[:, -1] = 255
    grid = open_features("colour_grid")(image, "whatever").reshape(8, 8, 3)
    assert np.isfinite(grid).all()
    assert (grid[0] == grid[7]).all(), "all rows are alike"
    expected = 1.0 if width <= 8 else (51 + 255) / 255 - 1  # the last cell has two of 20 columns
    assert grid[:, 7] == pytest.approx(expected) and (width == 1 or grid[:, 0] == pytest.approx(51 / 127.5 - 1))


def test_the_colour_grid_refuses_what_is_no_image() -> None:
    for image in (np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ImageError, match=r"image (is|has)"):
            open_features("colour_grid")(image, "whatever")
