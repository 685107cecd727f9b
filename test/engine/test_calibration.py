"""Calibration sees what the decoder really multiplies, and its scales reach the engines."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from model.tiny_checkpoint import tiny_config, write_checkpoint
from onnx import helper

from exaone_ros.engine import calibration
from exaone_ros.engine.calibration import Turn, calibrate, layer_inputs, read_frames
from exaone_ros.errors import CheckpointError, EngineError, ImageError
from exaone_ros.model.awq import InputScales
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import build_decoder
from exaone_ros.model.graph_part import cut, product_inputs
from exaone_ros.model.precision import precision
from exaone_ros.model.quantize import Quantizer
from exaone_ros.share import share_path

BUNDLED = "models/exaone4_5-tabletop-tiny"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def turn(checkpoint: Checkpoint, length: int, seed: int = 0) -> Turn:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(80, 160, length)
    tokens[2:8] = checkpoint.config.image_token
    return Turn(tokens, rng.normal(size=(6, checkpoint.config.text.hidden)).astype(np.float32))


def test_layer_by_layer_is_the_whole_decoder(checkpoint: Checkpoint) -> None:
    """Against the whole graph with every product's input as an output, past the sliding window of 24."""
    given = turn(checkpoint, 40)
    graph = build_decoder(checkpoint, 40, 20)
    model = onnx.load_from_string(graph.to_bytes())
    inputs = product_inputs(graph)
    names = sorted(set(inputs.values()))
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {
        "visual": given.visual,
        "visual_row": np.where(given.tokens == 67, np.cumsum(given.tokens == 67) - 1, -1)[None],
        "logit_rows": np.arange(40),
    }
    for layer in range(checkpoint.config.text.layers):
        feeds |= calibration._feeds(checkpoint, given, layer)
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    found = {}
    for _, samples in layer_inputs(checkpoint, [given], rows=1000, threads=1):
        found |= samples
    assert found.keys() == inputs.keys() - {"lm_head"}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[inputs[name]], rtol=1e-3, atol=1e-4, err_msg=name)


def test_samples_are_limited_and_drawn_from_every_turn(checkpoint: Checkpoint) -> None:
    turns = [turn(checkpoint, 20 + n, seed=n) for n in range(3)]
    (_, samples), *_ = layer_inputs(checkpoint, turns, rows=12, threads=1)
    assert {len(value) for value in samples.values()} == {12}


def test_a_part_of_a_graph_needs_its_weights_only(checkpoint: Checkpoint) -> None:
    graph = build_decoder(checkpoint, 32, 20)
    inputs = product_inputs(graph)
    first, second = (inputs[f"text.layers.{n}.self_attn.q_proj"] for n in (0, 1))
    part = cut(graph, [first], [second])
    layers = {name.split(".")[2] for name in part.values if name.startswith("text.layers.")}
    assert layers == {"0"} and "lm_head.weight" not in part.values
    onnx.checker.check_model(onnx.load_from_string(part.to_bytes()))
    with pytest.raises(ValueError, match="computes no value 'nothing'"):
        cut(graph, ["nothing"], [second])


def test_scales_of_the_bundled_checkpoint_lower_the_error_of_its_layers() -> None:
    """On inputs that the search did not see."""
    bundled = Checkpoint.open(share_path(BUNDLED))
    rng = np.random.default_rng(0)
    frames = [cv2.GaussianBlur(rng.integers(0, 256, (84, 112, 3), dtype=np.uint8), (9, 9), 0) for _ in range(2)]
    chosen = precision("int4-float32")
    seen: list[tuple[str, float]] = []
    scales = calibrate(bundled, chosen, frames[:1], threads=1, progress=lambda phase, done: seen.append((phase, done)))
    assert scales.by_layer, "no scale helped anywhere"
    assert seen[0] == ("Encoding calibration frames", 1.0) and seen[-1] == ("Calibrating", 1.0)
    plain, scaled = Quantizer(bundled, chosen), Quantizer(bundled, chosen, scales.by_layer)
    fresh = calibration._turns(bundled, frames[1:], 1, lambda phase, done: None)
    errors = {"plain": 0.0, "scaled": 0.0}
    for _, samples in layer_inputs(bundled, fresh, threads=1):
        for name, inputs in samples.items():
            if name in scales.by_layer:
                exact = inputs @ bundled.read(name + ".weight").T
                size = float(np.square(exact).sum())
                for kind, quantizer in (("plain", plain), ("scaled", scaled)):
                    off = inputs @ quantizer.quantize(name).dequantized().T - exact
                    errors[kind] += float(np.square(off).sum()) / size
    assert errors["scaled"] < errors["plain"]


def test_frames_are_spread_over_a_folder(tmp_path: Path) -> None:
    for n in range(5):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((28, 56, 3), (10 * n, 0, 200), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    frames = read_frames(tmp_path, 3)
    assert [int(frame[0, 0, 2]) for frame in frames] == [0, 20, 40]
    assert frames[0].shape == (28, 56, 3) and frames[0][0, 0, 0] == 200, "frames are RGB"
    np.save(tmp_path / "frames.npy", np.stack(frames))
    np.testing.assert_array_equal(read_frames(tmp_path / "frames.npy", 9), frames)


def test_what_holds_no_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no calibration frames; expected a folder of images"):
        read_frames(tmp_path, 3)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"broken\.png cannot be read as an image"):
        read_frames(tmp_path, 3)
    with pytest.raises(ImageError, match="0 calibration frames"):
        read_frames(tmp_path, 0)
    np.save(tmp_path / "floats.npy", np.zeros((2, 4, 4, 3)))
    with pytest.raises(ImageError, match="holds float64"):
        read_frames(tmp_path / "floats.npy", 1)


def test_a_checkpoint_without_tokenizer_and_no_frames_are_refused(checkpoint: Checkpoint) -> None:
    frame = np.zeros((56, 56, 3), np.uint8)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        calibrate(checkpoint, precision("int4"), [frame], threads=1)
    with pytest.raises(EngineError, match="no frames to calibrate on"):
        calibrate(checkpoint, precision("int4"), [], threads=1)


def test_scales_survive_a_file_and_damage_is_named(tmp_path: Path) -> None:
    scales = InputScales({"text.layers.0.mlp.up_proj": np.array([0.5, 2.0], np.float32)})
    scales.save(tmp_path / "scales.npz")
    again = InputScales.load(tmp_path / "scales.npz")
    assert again.digest == scales.digest and [p.name for p in tmp_path.iterdir()] == ["scales.npz"]
    assert InputScales({"text.layers.0.mlp.up_proj": np.array([0.5, 2.1], np.float32)}).digest != scales.digest
    (tmp_path / "scales.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(CheckpointError, match=r"scales\.npz: no input scales can be read"):
        InputScales.load(tmp_path / "scales.npz")
    InputScales({"a": np.array([0.0], np.float32)}).save(tmp_path / "zero.npz")
    with pytest.raises(CheckpointError, match="scale of 'a' is not positive"):
        InputScales.load(tmp_path / "zero.npz")


def test_the_tiny_config_is_past_its_window() -> None:
    assert tiny_config()["text_config"]["sliding_window"] < 40
