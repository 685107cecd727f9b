"""What no backend runs, whichever it is; and that a refusal leaves the backend as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine.backends.runnable import HERE
from model.tiny_checkpoint import VOCAB, write_checkpoint

from exaone_ros.engine.backend import Backend, Row, VisualTokens
from exaone_ros.engine.backends import open_backend
from exaone_ros.errors import CheckpointError, EngineError, ImageError

NEEDS = {"torch": "transformers", "onnxruntime": "onnxruntime"}
PAD = 67


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=HERE)
def backend(request: pytest.FixtureRequest, directory: Path) -> Iterator[Backend]:
    pytest.importorskip(NEEDS[request.param])
    backend = open_backend(request.param, directory, slots=3, context=50, threads=1)
    yield backend
    backend.close()


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int64)


def seen(count: int) -> VisualTokens:
    return VisualTokens(np.zeros((count, 64), np.float32), (1, count))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([Row(3, 0, ids(80))], "slot 3 does not exist"),
        ([Row(-1, 0, ids(80))], "slot -1 does not exist"),
        ([Row(1, 0, ids(80)), Row(1, 0, ids(80))], "slot 1 stands in two rows"),
        ([Row(0, 0, ids())], "int64 [0]"),
        ([Row(0, 0, np.zeros((1, 2), np.int64))], "int64 [1, 2]"),
        ([Row(0, 0, np.array([0.5]))], "float64"),
        ([Row(0, 0, ids(VOCAB))], f"token ids from {VOCAB}"),
        ([Row(0, 0, ids(-1))], "token ids from -1"),
        ([Row(0, 0, np.full(51, 80))], "51 tokens at position 0 do not fit into the context of 50"),
        ([Row(0, -1, ids(80))], "position -1"),
        ([Row(0, 30, ids(80))], "slot 0 holds 20 tokens; a row cannot start at 30"),
        ([Row(0, 0, ids(80), (), 2)], "logits of 2 tokens"),
        ([Row(0, 0, ids(80), (), -1)], "logits of -1 tokens"),
        ([Row(0, 0, ids(PAD, 80))], "1 image-pad tokens for 0 visual tokens"),
        ([Row(0, 0, ids(PAD, 80), (seen(2),))], "1 image-pad tokens for 2"),
        ([Row(1, 0, ids(80)), Row(0, 0, ids(PAD))], "slot 0: 1 image-pad"),
    ],
)
def test_a_row_that_does_not_fit(backend: Backend, rows: list[Row], said: str) -> None:
    (before,) = backend.run([Row(0, 0, np.arange(80, 100))])
    with pytest.raises(EngineError) as error:
        backend.run(rows)
    assert said in str(error.value)
    (again,) = backend.run([Row(0, 19, ids(99))])
    np.testing.assert_allclose(again, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "targets", "length", "said"),
    [
        (3, [0], 1, "slot 3 does not exist"),
        (0, [1, 5], 1, "slot 5 does not exist"),
        (0, [0], 1, "source and target"),
        (0, [1], 21, "holds 20 tokens; 21"),
        (0, [1], -1, "-1 cannot be copied"),
    ],
)
def test_a_copy_that_makes_no_sense(backend: Backend, source: int, targets: list[int], length: int, said: str) -> None:
    backend.run([Row(0, 0, np.arange(80, 100))])
    with pytest.raises(EngineError, match=said):
        backend.copy(source, targets, length)


def test_no_rows_and_no_logits(backend: Backend) -> None:
    assert backend.run([]) == []
    (none,) = backend.run([Row(0, 0, ids(80, 81), (), 0)])
    assert none.shape == (0, VOCAB)
    backend.copy(0, [], 2)
    backend.copy(0, [1], 0)
    assert backend.run([Row(1, 0, ids(80))])[0].shape == (1, VOCAB)


def test_an_image_that_cannot_be_used(backend: Backend) -> None:
    with pytest.raises(ImageError):
        backend.encode(np.zeros((0, 5, 3), np.uint8))


def test_encoding_says_how_long_preprocessing_took(backend: Backend) -> None:
    assert backend.encode(np.zeros((56, 56, 3), np.uint8)).preprocess_s > 0


def test_limits_say_what_fits(backend: Backend) -> None:
    limits = backend.limits
    assert (limits.slots, limits.context, limits.vocab) == (3, 50, VOCAB)
    assert limits.visual_tokens >= 200_000 // 784


@pytest.mark.parametrize("name", HERE)
def test_an_image_is_shrunk_to_the_visual_tokens_that_it_may_take(directory: Path, name: str) -> None:
    pytest.importorskip(NEEDS[name])
    backend = open_backend(name, directory, slots=1, context=50, threads=1, visual_tokens=24)
    try:
        assert backend.limits.visual_tokens == 24
        assert backend.encode(np.zeros((480, 640, 3), np.uint8)).grid == (4, 5)
    finally:
        backend.close()


@pytest.mark.parametrize("name", HERE)
def test_a_closed_backend_says_so(directory: Path, name: str) -> None:
    pytest.importorskip(NEEDS[name])
    backend = open_backend(name, directory, slots=1, context=8, threads=1)
    backend.close()
    backend.close()
    for use in (
        lambda: backend.run([Row(0, 0, ids(80))]),
        lambda: backend.encode(np.zeros((56, 56, 3), np.uint8)),
        lambda: backend.copy(0, [], 0),
    ):
        with pytest.raises(EngineError, match="closed"):
            use()
    assert backend.limits.slots == 1


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"slots": 0}, "slots is 0"),
        ({"context": 0}, "context is 0; expected 1 to 65536"),
        ({"context": 65537}, "context is 65537"),
        ({"threads": -1}, "threads is -1"),
        ({"slots": 2.5}, "slots is 2.5"),
        ({"visual_tokens": -1}, "visual_tokens is -1; expected 0 to"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"device": "cuda:x"}, "device is 'cuda:x'"),
        ({"device": "cuda:99"}, "device is 'cuda:99'"),
    ],
)
def test_sizes_and_devices_that_make_no_sense(directory: Path, name: str, arguments: dict, said: str) -> None:
    pytest.importorskip(NEEDS[name])
    with pytest.raises(EngineError, match=said):
        open_backend(name, directory, **arguments)


def test_an_unknown_backend(directory: Path) -> None:
    with pytest.raises(EngineError, match=r"'tensorflow'; expected one of \('onnxruntime', 'tensorrt', 'torch'\)"):
        open_backend("tensorflow", directory)


@pytest.mark.parametrize("name", HERE)
def test_a_checkpoint_that_is_not_there(tmp_path: Path, name: str) -> None:
    pytest.importorskip(NEEDS[name])
    with pytest.raises(CheckpointError, match="does not exist"):
        open_backend(name, tmp_path / "nowhere")
