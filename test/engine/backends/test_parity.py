"""Every backend says what `transformers` says: vision, prefill, decode, ragged batches, copies, windows, images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

from model.reference import IMAGE_TOKEN, greedy, logits, relative_error, visual_tokens
from model.tiny_checkpoint import VOCAB, tiny_config, write_checkpoint

from exaone_ros.engine.backend import Backend, Row, VisualTokens
from exaone_ros.engine.backends import open_backend
from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from exaone_ros.model.decoder_graph import KvWrite

TOLERANCE = 1e-3
SLOTS, CONTEXT = 6, 320
BACKENDS: dict[str, Callable[..., Backend]] = {
    "torch": partial(open_backend, "torch"),
    "onnxruntime": partial(open_backend, "onnxruntime"),
    "onnxruntime-scatter-elements": partial(OnnxRuntimeBackend, kv_write=KvWrite.SCATTER_ELEMENTS),
    "onnxruntime-opset23": partial(OnnxRuntimeBackend, opset=23),
    "onnxruntime-opset20": partial(OnnxRuntimeBackend, opset=20),
    "onnxruntime-opset18": partial(OnnxRuntimeBackend, opset=18),
}
Tokens = np.ndarray


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, directory: Path) -> Iterator[Backend]:
    backend = BACKENDS[request.param](directory, slots=SLOTS, context=CONTEXT, threads=1)
    yield backend
    backend.close()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def words(count: int, seed: int = 0) -> Tokens:
    return np.random.default_rng(seed).integers(80, VOCAB, count)


def prompt(visual: tuple[VisualTokens, ...], seed: int = 0, question: int = 20) -> Tokens:
    """Ids of a turn with images, as the chat template lays it out."""
    parts = [[1, 54]]
    for image in visual:
        parts += [[73], [IMAGE_TOKEN] * image.count, [74]]
    return np.concatenate([*parts, words(question, seed)]).astype(np.int64)


@pytest.mark.parametrize(
    ("height", "width"), [(112, 112), (224, 336), (140, 196), (84, 308), (252, 112), (56, 56), (364, 28)]
)
def test_vision_on_aligned_and_ragged_grids(backend: Backend, directory: Path, height: int, width: int) -> None:
    image = picture(height, width)
    found = backend.encode(image)
    assert found.grid == (height // 28, width // 28)
    assert relative_error(np.asarray(found.embeddings), visual_tokens(directory, image)) < TOLERANCE


def test_prefill_in_one_piece(backend: Backend, directory: Path) -> None:
    image = picture(140, 196)
    visual = (backend.encode(image),)
    ids = prompt(visual)
    (found,) = backend.run([Row(0, 0, ids, visual, len(ids))])
    assert relative_error(found, logits(directory, ids, [image])) < TOLERANCE


@pytest.mark.parametrize("piece", [1, 7, 30])
def test_append_across_the_sliding_window(backend: Backend, directory: Path, piece: int) -> None:
    """96 tokens in pieces, four times the window of 24."""
    ids = words(96, seed=3)
    found = [
        backend.run([Row(2, at, ids[at : at + piece], (), len(ids[at : at + piece]))])[0] for at in range(0, 96, piece)
    ]
    assert relative_error(np.concatenate(found), logits(directory, ids)) < TOLERANCE


def test_greedy_decoding_of_64_tokens(backend: Backend, directory: Path) -> None:
    image = picture(112, 224, seed=5)
    visual = (backend.encode(image),)
    ids = prompt(visual, seed=5)
    answer = []
    (last,) = backend.run([Row(1, 0, ids, visual)])
    for step in range(64):
        answer.append(int(last[0].argmax()))
        (last,) = backend.run([Row(1, len(ids) + step, np.array(answer[-1:]))])
    assert answer == greedy(directory, ids, [image], 64)
    assert len(set(answer)) > 8, "a model that repeats itself proves little"


def test_several_images_in_one_prompt(backend: Backend, directory: Path) -> None:
    images = [picture(56, 84, 1), picture(112, 140, 2), picture(84, 84, 3)]
    visual = tuple(backend.encode(image) for image in images)
    ids = prompt(visual)
    (found,) = backend.run([Row(0, 0, ids, visual, len(ids))])
    assert relative_error(found, logits(directory, ids, images)) < TOLERANCE


def test_questions_share_the_prefix_of_an_image(backend: Backend, directory: Path) -> None:
    """One prefill, copies into other slots, a ragged batch of questions, then batched decode with slots missing."""
    image = picture(112, 168, seed=7)
    visual = (backend.encode(image),)
    prefix = prompt(visual, question=0)
    backend.run([Row(0, 0, prefix, visual, 0)])
    backend.copy(0, [1, 3, 4], len(prefix))
    questions = {1: words(9, 1), 3: words(31, 2), 4: words(12, 3)}
    rows = [Row(slot, len(prefix), question) for slot, question in questions.items()]
    texts = {slot: np.concatenate([prefix, question]) for slot, question in questions.items()}
    for found, slot in zip(backend.run(rows), questions, strict=True):
        assert relative_error(found, logits(directory, texts[slot], [image])[-1:]) < TOLERANCE
    for active in ([1, 3, 4], [4, 1], [3], [1, 3]):
        new = {slot: words(1 + slot, 10 + slot) for slot in active}
        outs = backend.run([Row(slot, len(texts[slot]), new[slot], (), len(new[slot])) for slot in active])
        for found, slot in zip(outs, active, strict=True):
            texts[slot] = np.concatenate([texts[slot], new[slot]])
            assert relative_error(found, logits(directory, texts[slot], [image])[-len(new[slot]) :]) < TOLERANCE


def test_slots_next_to_a_batch_keep_what_they_hold(backend: Backend, directory: Path) -> None:
    """A slot between two rows may be run over as filler; what it holds must survive, at the context's end too."""
    kept = words(CONTEXT, seed=20)
    backend.run([Row(2, 0, kept[:-1], (), 0)])
    backend.run([Row(1, 0, words(5, 21), (), 0), Row(3, 0, words(5, 22), (), 0)])
    backend.run([Row(1, 5, words(1, 23), (), 0), Row(3, 5, words(1, 24), (), 0)])
    (found,) = backend.run([Row(2, CONTEXT - 1, kept[-1:])])
    assert relative_error(found, logits(directory, kept)[-1:]) < TOLERANCE


def test_a_start_before_the_end_forgets_the_rest(backend: Backend, directory: Path) -> None:
    ids, other = words(60, seed=30), words(25, seed=31)
    backend.run([Row(5, 0, ids, (), 0)])
    (found,) = backend.run([Row(5, 40, other, (), 25)])
    assert relative_error(found, logits(directory, np.concatenate([ids[:40], other]))[40:]) < TOLERANCE


def test_a_prefill_beside_a_decode_step(backend: Backend, directory: Path) -> None:
    long, short = words(150, seed=40), words(30, seed=41)
    backend.run([Row(0, 0, short[:-1], (), 0)])
    found = backend.run([Row(1, 0, long), Row(0, 29, short[-1:])])
    assert relative_error(found[0], logits(directory, long)[-1:]) < TOLERANCE
    assert relative_error(found[1], logits(directory, short)[-1:]) < TOLERANCE


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "onnxruntime-opset20"])
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_weights_are_computed_in_float32(tmp_path: Path, name: str, dtype: str) -> None:
    directory = write_checkpoint(tmp_path, dtype=dtype)
    backend = BACKENDS[name](directory, slots=1, context=128, threads=1)
    image = picture(84, 140)
    visual = (backend.encode(image),)
    ids = prompt(visual)
    (found,) = backend.run([Row(0, 0, ids, visual, len(ids))])
    assert relative_error(found, logits(directory, ids, [image])) < TOLERANCE


def random_config(seed: int) -> dict:
    """A configuration drawn at random: head counts and ratios, depths, window sizes, places of full attention."""
    rng = np.random.default_rng(seed)
    kv, ratio, head = int(rng.choice([1, 2, 3])), int(rng.choice([1, 2, 4])), int(rng.choice([8, 16, 24]))
    layers = int(rng.integers(2, 7))
    vision_kv, vision_ratio = int(rng.choice([1, 2])), int(rng.choice([1, 2, 3]))
    depth = int(rng.integers(1, 6))
    text = {
        "hidden_size": int(rng.choice([48, 64, 80])),
        "intermediate_size": int(rng.choice([64, 112])),
        "num_hidden_layers": layers,
        "num_attention_heads": kv * ratio,
        "num_key_value_heads": kv,
        "head_dim": head,
        "sliding_window": int(rng.integers(3, 60)),
        "layer_types": [str(rng.choice(["sliding_attention", "full_attention"])) for _ in range(layers)],
        "tie_word_embeddings": bool(seed % 2),
    }
    if seed % 3 == 0:
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 5000.0}
    vision = {
        "depth": depth,
        "hidden_size": vision_kv * vision_ratio * 16,
        "num_heads": vision_kv * vision_ratio,
        "num_key_value_heads": vision_kv,
        "fullatt_block_indexes": sorted({int(b) for b in rng.integers(0, depth, 2)}),
        "window_size": int(rng.choice([56, 84, 112])),
    }
    return tiny_config(text, vision, tie_word_embeddings=bool(seed % 2))


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "onnxruntime-opset20"])
@pytest.mark.parametrize("seed", range(6))
def test_random_configurations(tmp_path: Path, name: str, seed: int) -> None:
    directory = write_checkpoint(tmp_path, random_config(seed), seed)
    backend = BACKENDS[name](directory, slots=2, context=160, threads=1)
    image = picture(140, 168, seed)
    visual = (backend.encode(image),)
    assert relative_error(np.asarray(visual[0].embeddings), visual_tokens(directory, image)) < TOLERANCE
    ids = prompt(visual, seed, question=60)
    first, second = (
        backend.run([Row(1, a, ids[a:b], v, b - a)])[0] for a, b, v in ((0, 50, visual), (50, len(ids), ()))
    )
    expected = logits(directory, ids, [image])
    assert relative_error(np.concatenate([first, second]), expected) < TOLERANCE
    assert (np.concatenate([first, second]).argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_stored_head_that_the_configuration_ties(tmp_path: Path, name: str) -> None:
    """`transformers` does not tie weights that a checkpoint has apart, whatever its configuration says."""
    import torch
    from transformers import Exaone4_5_ForConditionalGeneration

    directory = write_checkpoint(tmp_path)
    (directory / "config.json").write_text(json.dumps(tiny_config(tie_word_embeddings=True)))
    model = Exaone4_5_ForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    backend = BACKENDS[name](directory, slots=1, context=64, threads=1)
    ids = words(40, seed=8)
    (found,) = backend.run([Row(0, 0, ids, (), len(ids))])
    with torch.inference_mode():
        expected = model(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    assert relative_error(found, expected) < TOLERANCE
