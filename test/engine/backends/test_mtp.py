"""Drafts: every backend with the MTP layer guesses what `transformers`' own layer guesses, whatever happened before."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

from model.tiny_checkpoint import VOCAB, random_weights, tiny_config, write_checkpoint, write_safetensors

from exaone_ros.engine.backend import DraftingBackend, DraftRow, Row, VisualTokens, drafting
from exaone_ros.engine.backends import open_backend
from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from exaone_ros.errors import CheckpointError, EngineError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import KvWrite

IMAGE_TOKEN = 67
SLOTS, CONTEXT = 5, 320
OPENERS: dict[str, Callable[..., DraftingBackend]] = {
    "default": partial(open_backend, "onnxruntime"),
    "scatter-elements": partial(OnnxRuntimeBackend, kv_write=KvWrite.SCATTER_ELEMENTS),
    "opset18": partial(OnnxRuntimeBackend, opset=18),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"), mtp=True)


def words(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(80, VOCAB, count)


class Pair:
    """A backend and the reference, told the same; drafts of both are compared."""

    def __init__(self, backend: DraftingBackend, reference: DraftingBackend) -> None:
        self.backend, self.reference = backend, reference
        image = np.random.default_rng(0).integers(0, 256, (84, 112, 3), dtype=np.uint8)
        self.visual = tuple(b.encode(image) for b in (backend, reference))

    def run(self, *rows: tuple[int, int, np.ndarray], image: bool = False, logits: int = 1) -> None:
        for backend, visual in zip((self.backend, self.reference), self.visual, strict=True):
            pictures: tuple[VisualTokens, ...] = (visual,) if image else ()
            backend.run([Row(slot, start, tokens, pictures, logits) for slot, start, tokens in rows])

    def copy(self, source: int, targets: list[int], length: int) -> None:
        for backend in (self.backend, self.reference):
            backend.copy(source, targets, length)

    def compare(self, *rows: tuple[int, int, np.ndarray]) -> list[int]:
        asked = [DraftRow(*row) for row in rows]
        found, expected = self.backend.draft(asked), self.reference.draft(asked)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * float(np.abs(b).max()))
        return [int(logits.argmax()) for logits in found]

    def prompt(self, seed: int = 0) -> np.ndarray:
        pads = [IMAGE_TOKEN] * self.visual[0].count
        return np.concatenate([[1, 54, 73], pads, [74], words(9, seed)]).astype(np.int64)


@pytest.mark.parametrize("opener", OPENERS)
def test_drafts_are_those_of_the_reference(directory: Path, opener: str) -> None:
    sizes = {"slots": SLOTS, "context": CONTEXT, "threads": 1, "mtp": True}
    backend, reference = OPENERS[opener](directory, **sizes), open_backend("torch", directory, **sizes)
    assert drafting(backend) is backend
    pair = Pair(backend, reference)
    head = pair.prompt()
    at = head.size
    pair.run((0, 0, head), image=True, logits=0)
    pair.copy(0, [1, 3], at)
    # questions of unequal length behind a shared head, drafts of one to three tokens, in slots with a gap between
    pair.run((1, at, words(7, 1)), (3, at, words(30, 2)))
    chosen = [np.array([90]), np.array([101, 102])]
    for _ in range(3):
        guesses = pair.compare((1, at + 7, chosen[0]), (3, at + 30, chosen[1]))
        chosen = [np.append(tokens, guess) for tokens, guess in zip(chosen, guesses, strict=True)]
    # one row runs its drafts, the other goes on alone meanwhile; then the drafts are refused but for one
    pair.run((1, at + 7, chosen[0]), (3, at + 30, chosen[1]))
    pair.compare((3, at + 33, np.array([99])))
    assert pair.compare((1, at + 8, np.array([120, 121]))) != []
    pair.compare((1, at + 8, np.array([122])))
    pair.run((1, at + 8, np.array([122, 123])))
    pair.compare((1, at + 10, np.array([88])), (3, at + 33, np.array([99, 98])))
    # a slot is used again: its head stays, another image follows; an empty prompt starts from nothing
    pair.run((0, 3, pair.prompt(5)[3:]), image=True)
    pair.compare((0, at, np.array([140])))
    pair.run((4, 0, words(3, 7)), (1, at + 2, words(3, 8)))
    pair.compare((4, 1, np.array([130])), (1, at + 5, np.array([131])))
    # a head in pieces: the image comes behind tokens that nobody drafted on
    pair.run((2, 0, pair.prompt()[:2]))
    pair.run((2, 2, pair.prompt()[2:]), image=True)
    pair.compare((2, at, np.array([150, 151])))
    backend.close()
    reference.close()


def test_opened_without_the_layer_a_backend_says_that_it_drafts_nothing(directory: Path) -> None:
    for name in ("onnxruntime", "torch"):
        backend = open_backend(name, directory, slots=1, context=64, threads=1)
        assert drafting(backend) is None
        with pytest.raises(EngineError, match="mtp=True"):
            backend.draft([DraftRow(0, 1, np.array([90]))])  # type: ignore[attr-defined]
        backend.close()
    with pytest.raises(EngineError, match="'tensorrt' has no MTP layer"):
        open_backend("tensorrt", directory, mtp=True)


def test_bad_drafts_are_refused_by_name(directory: Path) -> None:
    backend = OPENERS["default"](directory, slots=2, context=64, threads=1, mtp=True)
    backend.run([Row(0, 0, words(5))])
    for row, message in (
        (DraftRow(1, 1, words(1)), "slot 1 holds 0 tokens"),
        (DraftRow(0, 0, words(1)), "cannot start behind 0"),
        (DraftRow(0, 6, words(1)), "slot 0 holds 5 tokens"),
        (DraftRow(0, 5, words(0)), "expected int64"),
        (DraftRow(0, 5, np.array([IMAGE_TOKEN])), "image-pad token"),
        (DraftRow(0, 5, np.array([VOCAB])), "token ids"),
        (DraftRow(0, 5, words(60)), "do not fit into the context"),
        (DraftRow(2, 1, words(1)), "slot 2 does not exist"),
    ):
        with pytest.raises(EngineError, match=message):
            backend.draft([row])
    backend.close()


def test_a_checkpoint_without_the_whole_layer_is_refused_only_where_it_is_wanted(tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "plain")
    with pytest.raises(CheckpointError, match=r"0 tensors 'mtp\.\*' are no MTP layer; .*pre_fc_norm_embedding"):
        open_backend("onnxruntime", plain, mtp=True)
    weights = random_weights(tiny_config(), mtp=True)
    del weights["mtp.fc.weight"]
    write_safetensors(plain / "model.safetensors", weights)
    checkpoint = Checkpoint.open(plain)
    assert not checkpoint.has_mtp
    assert "mtp.norm.weight" in checkpoint.unused
    with pytest.raises(CheckpointError, match="14 tensors"):
        open_backend("torch", plain, mtp=True)


def test_the_kind_of_the_layer_is_the_one_more_entry_of_the_configuration(tmp_path: Path) -> None:
    for extra, kind in ([[], "sliding_attention"], [["full_attention"], "full_attention"]):
        types = ["sliding_attention"] * 3 + ["full_attention", *extra]
        directory = write_checkpoint(tmp_path / kind, tiny_config(text={"layer_types": types}), mtp=True)
        assert Checkpoint.open(directory).config.text.mtp_layer_type == kind
        sizes = {"slots": 1, "context": 128, "threads": 1, "mtp": True}
        backend, reference = (open_backend(name, directory, **sizes) for name in ("onnxruntime", "torch"))
        pair = Pair(backend, reference)
        pair.run((0, 0, words(60)))  # longer than the window
        pair.compare((0, 60, words(2, 3)))
        backend.close()
        reference.close()
