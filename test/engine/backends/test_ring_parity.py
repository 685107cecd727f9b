"""Sliding-window layers that hold only their window say what `transformers` says, however often they wrap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

from model.reference import IMAGE_TOKEN, logits, relative_error
from model.tiny_checkpoint import VOCAB, tiny_config, write_checkpoint

from exaone_ros.engine.backend import DraftRow, Row, WindowedBackend, keeps
from exaone_ros.engine.backends import open_backend
from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from exaone_ros.errors import EngineError
from exaone_ros.model.decoder_graph import KvWrite

WINDOW, CHUNK = 16, 12
RING = WINDOW + CHUNK
SLOTS, CONTEXT = 5, 640
TOLERANCE = 1e-3
OPENERS: dict[str, Callable[..., OnnxRuntimeBackend]] = {
    "default": partial(OnnxRuntimeBackend, chunk=CHUNK),
    "scatter-elements": partial(OnnxRuntimeBackend, chunk=CHUNK, kv_write=KvWrite.SCATTER_ELEMENTS),
    "opset18": partial(OnnxRuntimeBackend, chunk=CHUNK, opset=18),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"), tiny_config({"sliding_window": WINDOW}), mtp=True)


@pytest.fixture(scope="module", params=OPENERS)
def backend(request: pytest.FixtureRequest, directory: Path) -> Iterator[OnnxRuntimeBackend]:
    backend = OPENERS[request.param](directory, slots=SLOTS, context=CONTEXT, threads=1)
    yield backend
    backend.close()


def words(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(80, VOCAB, count)


def test_prompts_of_many_windows_in_one_call_and_in_pieces(backend: OnnxRuntimeBackend, directory: Path) -> None:
    """Unequal rows in one call, longer than the ring and shorter; then pieces that wrap anywhere."""
    texts = [words(count, seed) for seed, count in enumerate((150, 9, 61, 40))]
    slots = (0, 1, 3, 4)
    found = backend.run([Row(slot, 0, ids, (), len(ids)) for slot, ids in zip(slots, texts, strict=True)])
    for ids, part in zip(texts, found, strict=True):
        assert relative_error(part, logits(directory, ids)) < TOLERANCE
    for piece in (7, 30, 45):
        more = [words(piece, 10 * piece + slot) for slot in slots]
        rows = [Row(slot, len(ids), new, (), len(new)) for slot, ids, new in zip(slots, texts, more, strict=True)]
        found = backend.run(rows)
        texts = [np.concatenate(pair) for pair in zip(texts, more, strict=True)]
        for ids, part in zip(texts, found, strict=True):
            assert relative_error(part, logits(directory, ids)[-piece:]) < TOLERANCE


def test_short_rows_around_a_long_one_that_fills_its_ring(backend: OnnxRuntimeBackend, directory: Path) -> None:
    """The slot between them has just been written up to its end: nothing may be put behind that."""
    texts = [words(count, 70 + count) for count in (2, RING - 1, 3)]
    found = backend.run([Row(slot, 0, ids, (), len(ids)) for slot, ids in enumerate(texts)])
    for ids, part in zip(texts, found, strict=True):
        assert relative_error(part, logits(directory, ids)) < TOLERANCE


def test_drafts_refused_at_every_place_of_the_ring(backend: OnnxRuntimeBackend, directory: Path) -> None:
    """Two rows decode side by side over two wraps; of each run's tokens only some come true."""
    rng = np.random.default_rng(3)
    texts = {1: words(50, 1), 2: words(83, 2)}
    said: dict[int, list[np.ndarray]] = {1: [], 2: []}
    backend.run([Row(slot, 0, ids, (), 0) for slot, ids in texts.items()])
    begin = {slot: len(ids) for slot, ids in texts.items()}
    while len(texts[1]) < 50 + 2 * RING:
        rows, taken = [], []
        for slot, ids in texts.items():
            drafted = words(int(rng.integers(1, 9)), int(rng.integers(1 << 30)))
            rows.append(Row(slot, len(ids), drafted, (), len(drafted)))
            taken.append(int(rng.integers(1, len(drafted) + 1)))
        for row, part, count in zip(rows, backend.run(rows), taken, strict=True):
            said[row.slot].append(part[:count])
            texts[row.slot] = np.concatenate([texts[row.slot], row.tokens[:count]])
    for slot, ids in texts.items():
        expected = logits(directory, ids)[begin[slot] :]
        assert relative_error(np.concatenate(said[slot]), expected) < TOLERANCE


def test_prefixes_are_copied_wrapped_or_not(backend: OnnxRuntimeBackend, directory: Path) -> None:
    """Heads shorter and longer than the ring, to slots that held more and less; then one that changes its bucket."""
    backend.run([Row(3, 0, words(90, 9), (), 0), Row(1, 0, words(5, 8), (), 0)])
    for length in (20, RING, 77, 505):
        head = words(length, length)
        backend.run([Row(0, 0, head, (), 0)])
        backend.copy(0, [1, 3, 4], length)
        texts = {slot: np.concatenate([head, words(13 + slot, slot)]) for slot in (1, 3, 4)}
        found = backend.run([Row(slot, length, ids[length:], (), len(ids) - length) for slot, ids in texts.items()])
        for (slot, ids), part in zip(texts.items(), found, strict=True):
            assert relative_error(part, logits(directory, ids)[length:]) < TOLERANCE, (length, slot)
    for step in range(3):  # slots around the bound of the first bucket, beside a short one
        new = {slot: words(1, 60 + 10 * step + slot) for slot in texts}
        for slot, token in new.items():
            texts[slot] = np.concatenate([texts[slot], token])
        found = backend.run([Row(slot, len(ids) - 1, ids[-1:]) for slot, ids in texts.items()])
        for (slot, ids), part in zip(texts.items(), found, strict=True):
            assert relative_error(part, logits(directory, ids)[-1:]) < TOLERANCE, slot


def test_images_in_a_prompt_that_is_cut(backend: OnnxRuntimeBackend, directory: Path) -> None:
    images = [np.random.default_rng(n).integers(0, 256, (112, 56 + 56 * n, 3), dtype=np.uint8) for n in (1, 2)]
    visual = tuple(backend.encode(image) for image in images)
    parts = [words(20, 4)]
    for number, image in enumerate(visual):
        parts += [np.array([73]), np.full(image.count, IMAGE_TOKEN), np.array([74]), words(10, number)]
    ids = np.concatenate(parts).astype(np.int64)
    assert len(ids) > 2 * RING
    (found,) = backend.run([Row(2, 0, ids, visual, len(ids))])
    assert relative_error(found, logits(directory, ids, images)) < TOLERANCE


def test_a_slot_is_not_set_back_behind_what_it_holds(backend: OnnxRuntimeBackend, directory: Path) -> None:
    assert isinstance(backend, WindowedBackend)
    ids = words(120, 30)
    backend.run([Row(0, 0, ids[:RING], (), 0)])
    assert all(keeps(backend, 0, length) for length in range(RING + 1)), "nothing is lost yet"
    backend.run([Row(0, RING, ids[RING:], (), 0)])
    assert [length for length in range(121) if keeps(backend, 0, length)] == [0, *range(120 - CHUNK - 1, 121)]
    with pytest.raises(EngineError, match=r"slot 0 cannot go on from its first 60 tokens: .* before position 92"):
        backend.run([Row(0, 60, ids[60:70])])
    with pytest.raises(EngineError, match="slot 0 cannot go on from its first 20 tokens"):
        backend.copy(0, [1], 20)
    (found,) = backend.run([Row(0, 110, ids[110:], (), 10)])
    assert relative_error(found, logits(directory, ids)[110:]) < TOLERANCE
    backend.copy(0, [1], 0)
    (found,) = backend.run([Row(0, 0, ids[:10], (), 10)])
    assert relative_error(found, logits(directory, ids[:10])) < TOLERANCE
    assert keeps(backend, 0, 5), "a new beginning"


def test_the_mtp_layer_drafts_as_the_reference_past_its_window(directory: Path) -> None:
    sizes = {"slots": 3, "context": CONTEXT, "threads": 1, "mtp": True}
    backend, reference = OnnxRuntimeBackend(directory, chunk=CHUNK, **sizes), open_backend("torch", directory, **sizes)
    both = (backend, reference)
    ids, picture = words(130, 40), np.random.default_rng(5).integers(0, 256, (84, 112, 3), dtype=np.uint8)
    ids[40] = 73
    ids[41:53] = IMAGE_TOKEN
    for each in both:
        each.run([Row(0, 0, ids[:30], (), 0)])
        each.run([Row(0, 30, ids[30:90], (each.encode(picture),), 0)])
        each.copy(0, [2], 90)
    for start in range(90, 127, 3):  # drafts of three, of which one comes true
        ahead = words(3, start)
        rows = [DraftRow(slot, start, ahead[:count]) for slot in (0, 2) for count in (1 + slot,)]
        for found, expected in zip(*(each.draft(rows) for each in both), strict=True):
            assert relative_error(found, expected) < 2 * TOLERANCE
        for each in both:
            each.run([Row(slot, start, np.concatenate([ids[start : start + 1], ahead])) for slot in (0, 2)])
            each.run([Row(slot, start + 1, ids[start + 1 : start + 3]) for slot in (0, 2)])
    with pytest.raises(EngineError, match=f"a draft behind 13 tokens; expected at most {CHUNK}"):
        backend.draft([DraftRow(0, 129, words(13))])
    for each in both:
        each.close()


def test_a_chunk_of_nothing_is_refused(directory: Path) -> None:
    with pytest.raises(EngineError, match="chunk is 0"):
        OnnxRuntimeBackend(directory, slots=1, context=64, chunk=0)


@pytest.mark.parametrize("beside", [0, 16])
def test_drafts_are_as_long_as_a_short_chunk_can_take_back(directory: Path, beside: int) -> None:
    """A whole draft is refused again and again, alone and padded to the length of a row beside it."""
    backend = OnnxRuntimeBackend(directory, slots=3, context=CONTEXT, threads=1, chunk=40)
    assert backend.limits.draft == 8
    ids = words(130, 50)
    for slot in (0, 1):
        backend.run([Row(slot, 0, ids[:60], (), 0)])
    for start in range(60, 100):
        tokens = np.concatenate([ids[start : start + 1], words(backend.limits.draft, start)])
        rows = [Row(0, start, tokens)]
        if beside:
            rows.append(Row(1, 60, words(tokens.size + beside, start), (), 0))
        backend.run(rows)
    (found,) = backend.run([Row(0, 100, ids[100:], (), 30)])
    assert relative_error(found, logits(directory, ids)[100:]) < TOLERANCE
    assert OnnxRuntimeBackend(directory, slots=1, context=CONTEXT, threads=1, chunk=12).limits.draft == 0
    assert OnnxRuntimeBackend(directory, slots=1, context=40, threads=1, chunk=40).limits.draft is None, "no ring"
