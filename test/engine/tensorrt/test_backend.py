"""The backend says what ONNX Runtime says, over a device that checks every address and shape."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from engine.tensorrt.fake_cuda import FakeCuda
from engine.tensorrt.fake_tensorrt import fake_library
from model.reference_error import relative_error
from model.tiny_checkpoint import VOCAB, write_checkpoint

from exaone_ros.engine.backend import Row, VisualTokens, keeps
from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend
from exaone_ros.engine.backends.tensorrt import TensorRtBackend
from exaone_ros.engine.scheduler import Scheduling
from exaone_ros.engine.tensorrt.compile import compile_checkpoint
from exaone_ros.engine.tensorrt.memory import PICTURES, estimate
from exaone_ros.engine.tensorrt.plan import Capacity
from exaone_ros.engine.tensorrt.step_graphs import STEP_TOKENS
from exaone_ros.engine.tensorrt.versions import target_for
from exaone_ros.errors import EngineError
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import precision

HALF = 1e-2
CAPACITY = Capacity(slots=4, context=160, chunk=24, visual_tokens=40)
RING_CAPACITY = Capacity(slots=3, context=400, chunk=24, visual_tokens=40)
IMAGE_TOKEN = 67


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def expected(directory: Path) -> Iterator[OnnxRuntimeBackend]:
    backend = OnnxRuntimeBackend(directory, slots=4, context=160, threads=1)
    yield backend
    backend.close()


@pytest.fixture(scope="module", params=["10.16.1.11", "10.3.0"])
def engines(
    request: pytest.FixtureRequest, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A version, and a cache with its engines: one writes the KV caches in place, one does not."""
    return build(request.param, CAPACITY, directory, tmp_path_factory.mktemp("engines"))


def build(version: str, capacity: Capacity, directory: Path, root: Path) -> tuple[str, Path]:
    """Engines of a checkpoint in a cache; skips where nothing here can run their graphs."""
    cuda = FakeCuda()
    library = fake_library(cuda, version)
    if library.target.opset > best_opset(onnxruntime):
        pytest.skip(
            f"onnxruntime {onnxruntime.__version__}, which the fake runs on, has no opset {library.target.opset}"
        )
    compile_checkpoint(
        Checkpoint.open(directory), library, cuda.device(), precision("float16"), capacity, root=root,
        available_bytes=lambda: 1 << 40,
    )  # fmt: skip
    return version, root


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def backend(engines: tuple[str, Path], directory: Path, cuda: FakeCuda) -> Iterator[TensorRtBackend]:
    version, root = engines
    backend = TensorRtBackend(
        directory, slots=4, context=160, cache_root=root, library=fake_library(cuda, version), cuda=cuda
    )
    yield backend
    backend.close()


def words(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(80, VOCAB, count)


def prompt(tokens: int, seed: int, question: int) -> np.ndarray:
    return np.concatenate([[1, 73], [IMAGE_TOKEN] * tokens, [74], words(question, seed)]).astype(np.int64)


def both(call: Any, backend: TensorRtBackend, expected: OnnxRuntimeBackend) -> tuple[list[Any], list[Any]]:
    return call(backend), call(expected)


def test_questions_on_one_look(backend: TensorRtBackend, expected: OnnxRuntimeBackend, cuda: FakeCuda) -> None:
    """Prefill in chunks, a copied prefix, a ragged batch, then decode steps that become a CUDA graph."""
    picture = np.random.default_rng(1).integers(0, 256, (112, 196, 3), dtype=np.uint8)

    def session(target: Any) -> list[np.ndarray]:
        image = target.encode(picture)
        assert image.count == 28
        prefix = prompt(28, 0, 0)
        target.run([Row(0, 0, prefix, (image,), 0)])
        target.copy(0, [1, 2, 3], len(prefix))
        found = target.run([Row(slot, len(prefix), words(6 + slot, slot), (), 2) for slot in (1, 2, 3)])
        held = {slot: len(prefix) + 6 + slot for slot in (1, 2, 3)}
        for step in range(5):
            found += target.run([Row(slot, held[slot] + step, words(1, 50 + step)) for slot in (1, 2, 3)])
        return found

    for left, right in zip(*both(session, backend, expected), strict=True):
        assert relative_error(left, right) < HALF
    assert cuda.launches == 3, "the first two of five decode steps run plainly, the others as a graph"


def test_long_rows_are_cut_and_their_logits_put_together(
    backend: TensorRtBackend, expected: OnnxRuntimeBackend
) -> None:
    """90 tokens in chunks of 24, logits of 60 of them, in slots with a gap between."""
    rows = [Row(0, 0, words(90, 1), (), 60), Row(2, 0, words(70, 2), (), 3), Row(3, 0, words(5, 3), (), 0)]
    for left, right in zip(*both(lambda target: target.run(rows), backend, expected), strict=True):
        assert left.shape == right.shape
        assert left.size == 0 or relative_error(left, right) < HALF


def test_more_visual_tokens_than_one_run_takes(backend: TensorRtBackend, expected: OnnxRuntimeBackend) -> None:
    """Three images of 28 tokens in one row, and two rows with an image each, where a run takes 40."""
    pictures = [np.random.default_rng(n).integers(0, 256, (112, 196, 3), dtype=np.uint8) for n in range(3)]

    def session(target: Any) -> list[np.ndarray]:
        images = tuple(target.encode(picture) for picture in pictures)
        ids = np.concatenate([prompt(28, n, 2) for n in range(3)])
        found = target.run([Row(0, 0, ids, images, 1)])
        return found + target.run([Row(n, 0, prompt(28, n, 4), (images[n],), 1) for n in (1, 2)])

    for left, right in zip(*both(session, backend, expected), strict=True):
        assert relative_error(left, right) < HALF


def test_the_host_waits_only_for_logits(backend: TensorRtBackend, cuda: FakeCuda) -> None:
    backend.run([Row(0, 0, words(5, 1), (), 0)])
    before = cuda.synchronizations
    backend.run([Row(1, 0, words(5, 2), (), 1)])
    assert cuda.synchronizations == before + 2  # the pinned memory of the run before, and the logits
    backend.copy(1, [2], 5)
    backend.run([Row(1, 5, words(1, 3), (), 1)])
    assert cuda.synchronizations == before + 3


def test_a_decode_step_waits_once(backend: TensorRtBackend, cuda: FakeCuda) -> None:
    """For its logits, whether it runs plainly, is recorded or is replayed, with one row or several."""
    for rows in (1, 3):
        backend.run([Row(slot, 0, words(5, slot), (), 1) for slot in range(rows)])
        for step in range(5):
            before = cuda.host_waits
            backend.run([Row(slot, 5 + step, words(1, step), (), 1) for slot in range(rows)])
            assert cuda.host_waits == before + 1, f"step {step} of {rows} rows"
    assert cuda.captures == 2 and cuda.launches == 6


def test_steps_that_take_turns_keep_their_graphs(
    backend: TensorRtBackend, expected: OnnxRuntimeBackend, cuda: FakeCuda
) -> None:
    """Two rows, then one, then the other, in turns: each of the three is recorded once."""
    slots = [(0, 1), (0,), (1,)]

    def session(target: Any) -> list[np.ndarray]:
        held = dict.fromkeys((0, 1), 4)
        found = target.run([Row(slot, 0, words(4, slot)) for slot in (0, 1)])
        for turn in range(12):
            together = slots[turn % 3]
            found += target.run([Row(slot, held[slot], words(1, 9 * turn + slot)) for slot in together])
            held |= {slot: held[slot] + 1 for slot in together}
        return found

    for left, right in zip(*both(session, backend, expected), strict=True):
        assert relative_error(left, right) < HALF
    assert cuda.captures == 3 and cuda.launches == 6, "each of the three: plain, plain, recorded, replayed"


def test_steps_with_drafts_are_replayed(backend: TensorRtBackend, expected: OnnxRuntimeBackend, cuda: FakeCuda) -> None:
    """Rows of one to four tokens, drafts behind some, all of which are refused; each form of a step has its graph."""
    forms = [(1, 1), (2, 2), (3, 1), (4, 4), (2, 1)]  # tokens, and logits wanted of them
    turns = 5

    def session(target: Any) -> list[np.ndarray]:
        found = target.run([Row(slot, 0, words(12, slot)) for slot in (0, 1)])
        for turn in range(turns):
            for number, (tokens, logits) in enumerate(forms):
                drawn = words(2 * tokens, 20 * turn + number).reshape(2, tokens)
                found += target.run([Row(slot, 12 + turn, drawn[slot], (), logits) for slot in (0, 1)])
        return found

    for left, right in zip(*both(session, backend, expected), strict=True):
        assert left.shape == right.shape and relative_error(left, right) < HALF
    assert cuda.captures == len(forms) and cuda.launches == (turns - 2) * len(forms)


def test_a_prompt_is_not_recorded(backend: TensorRtBackend, cuda: FakeCuda) -> None:
    for turn in range(5):
        backend.run([Row(0, 0, words(STEP_TOKENS + 1, turn))])
    assert cuda.captures == 0 and not backend._steps._steps


def test_graphs_that_are_not_used_make_room(backend: TensorRtBackend, cuda: FakeCuda) -> None:
    backend._steps._most = 2
    for slot in (0, 1, 2, 0):
        backend.run([Row(slot, 0, words(12, slot))])
        for step in range(4):
            backend.run([Row(slot, 12 + step, words(1, step))])
    assert cuda.captures == 4, "that of slot 0 had to go and was recorded anew"
    assert sum(bool(graph) for graph in cuda.graphs.values()) == 2


def test_another_address_is_another_graph(
    backend: TensorRtBackend, expected: OnnxRuntimeBackend, cuda: FakeCuda
) -> None:
    def session(target: Any) -> list[np.ndarray]:
        found = target.run([Row(0, 0, words(4, 0))])
        for step in range(8):
            if target is backend and step == 4:
                size = backend._capacity.logits * backend._config.text.vocab * 4
                backend._logits = backend._arena.device(size, "buffers")
            found += target.run([Row(0, 4 + step, words(1, step))])
        return found

    for left, right in zip(*both(session, backend, expected), strict=True):
        assert relative_error(left, right) < HALF
    assert cuda.captures == 2 and cuda.launches == 4


def test_memory_is_allocated_once_and_all_of_it_is_freed(
    engines: tuple[str, Path], directory: Path, cuda: FakeCuda
) -> None:
    version, root = engines
    library = fake_library(cuda, version)
    backend = TensorRtBackend(directory, slots=2, context=100, cache_root=root, library=library, cuda=cuda)
    picture = np.zeros((56, 56, 3), np.uint8)
    backend.encode(picture)
    gc.collect()
    before = cuda.allocations
    for step in range(6):
        image = backend.encode(picture)
        backend.run([Row(0, 0, prompt(4, step, 3), (image,), 1)])
        del image
    assert cuda.allocations == before
    assert backend.device_bytes > 0
    backend.close()
    assert not cuda.leaked
    backend.close()
    with pytest.raises(EngineError, match="closed"):
        backend.encode(picture)


def test_expected_memory_is_what_is_allocated(
    engines: tuple[str, Path], backend: TensorRtBackend, cuda: FakeCuda, directory: Path
) -> None:
    """To the byte, item by item; what the engines compute in is the library's own figure, which the fake makes up."""
    config = Checkpoint.open(directory).config
    aliased = target_for("tensorrt", engines[0]).aliased_kv
    need = estimate(config, precision("float16"), CAPACITY, aliased_kv=aliased)
    pictures = [backend.encode(np.zeros((28, 28, 3), np.uint8)) for _ in range(PICTURES)]
    found = backend.device_bytes_by_purpose
    activations = max(session.scratch_bytes for session in (backend._vision, backend._decoder))
    expected = {
        "caches": need.caches, "buffers": need.buffers, "pictures": need.pictures, "activations": activations
    }  # fmt: skip
    assert found == expected
    assert backend.device_bytes == sum(expected.values()) == sum(block.size for block in cuda.blocks.values())
    assert sum(block.size for block in cuda.pinned_blocks) == need.pinned
    del pictures


def test_pictures_are_counted_as_the_engine_keeps_them() -> None:
    assert Scheduling().kept_pictures + 1 == PICTURES


@pytest.fixture(scope="module", params=["10.16.1.11", "10.3.0"])
def ring_engines(
    request: pytest.FixtureRequest, directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The same for a context in which the caches of sliding layers are rings of 24 + 128 positions."""
    return build(request.param, RING_CAPACITY, directory, tmp_path_factory.mktemp("ring_engines"))


def test_sliding_layers_hold_only_their_window(ring_engines: tuple[str, Path], directory: Path, cuda: FakeCuda) -> None:
    """Rows that wrap at different places, copies of what has wrapped, drafts that are refused around the wraps."""
    version, root = ring_engines
    sizes = {"slots": 3, "context": 400}
    backend = TensorRtBackend(directory, **sizes, cache_root=root, library=fake_library(cuda, version), cuda=cuda)
    expected = OnnxRuntimeBackend(directory, **sizes, threads=1)  # its own ring would be longer than the context
    assert [keeps(each, 0, 0) for each in (backend, expected)] == [True, True]

    def session(target: Any) -> list[np.ndarray]:
        rows = [Row(0, 0, words(290, 1), (), 40), Row(2, 0, words(147, 2), (), 3)]
        found = target.run(rows)
        target.copy(0, [1], 290)
        held = {0: 290, 1: 290, 2: 147}
        for step in range(8):
            drafted = {slot: words(5, 100 * step + slot) for slot in held}
            found += target.run([Row(slot, at, drafted[slot], (), 5) for slot, at in held.items()])
            held = {slot: at + 1 + (step + slot) % 5 for slot, at in held.items()}
        return found

    for left, right in zip(*both(session, backend, expected), strict=True):
        assert relative_error(left, right) < HALF
    assert not keeps(backend, 0, 100)
    with pytest.raises(EngineError, match="slot 0 cannot go on from its first 100 tokens"):
        backend.run([Row(0, 100, words(1, 3))])
    (again,) = backend.run([Row(0, 0, words(30, 7))])
    assert relative_error(again, expected.run([Row(0, 0, words(30, 7))])[0]) < HALF
    expected.close()
    backend.close()
    assert not cuda.leaked


def test_a_failed_start_leaves_nothing_behind(engines: tuple[str, Path], directory: Path, cuda: FakeCuda) -> None:
    version, root = engines
    library = fake_library(cuda, version)
    library.module.Runtime = lambda logger: type("R", (), {"deserialize_cuda_engine": lambda self, plan: None})()
    with pytest.raises(EngineError, match="cannot load"):
        TensorRtBackend(directory, slots=2, context=100, cache_root=root, library=library, cuda=cuda)
    assert not cuda.leaked


def test_an_image_beyond_the_engines_is_shrunk_to_what_they_take(backend: TensorRtBackend) -> None:
    assert backend.limits.visual_tokens == CAPACITY.visual_tokens == 40
    assert backend.encode(np.zeros((224, 224, 3), np.uint8)).grid == (6, 6), "of 8 x 8"


def test_images_are_shrunk_further_where_that_is_asked_for(
    engines: tuple[str, Path], directory: Path, cuda: FakeCuda
) -> None:
    version, root = engines
    library = fake_library(cuda, version)
    backend = TensorRtBackend(
        directory, slots=2, context=100, visual_tokens=20, cache_root=root, library=library, cuda=cuda
    )
    try:
        assert backend.limits.visual_tokens == 20
        assert backend.encode(np.zeros((224, 224, 3), np.uint8)).grid == (4, 4)
    finally:
        backend.close()


def test_visual_tokens_of_another_backend_are_refused(backend: TensorRtBackend) -> None:
    foreign = VisualTokens(np.zeros((1, 64), np.float32), (1, 1))
    with pytest.raises(EngineError, match=r"ndarray; expected those of this backend's own encode"):
        backend.run([Row(0, 0, np.array([IMAGE_TOKEN]), (foreign,), 1)])


@pytest.mark.parametrize(("slots", "context"), [(5, 100), (2, 161)])
def test_more_than_the_engines_hold_is_refused_with_the_command(
    engines: tuple[str, Path], directory: Path, cuda: FakeCuda, slots: int, context: int
) -> None:
    version, root = engines
    with pytest.raises(EngineError, match=rf"4 slots of 160 tokens\); build them: exaone compile .* --slots {slots}"):
        TensorRtBackend(
            directory, slots=slots, context=context, cache_root=root, library=fake_library(cuda, version), cuda=cuda
        )


def test_a_cpu_is_refused(directory: Path) -> None:
    with pytest.raises(EngineError, match="device is 'cpu'; backend 'tensorrt' runs on 'cuda'"):
        TensorRtBackend(directory, slots=1, context=64, device="cpu")


def test_the_device_refuses_a_write_past_the_end_of_a_slot(
    backend: TensorRtBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one would write into the next slot; so a plan that does not look at the end must not pass these tests."""
    backend.run([Row(0, 0, words(150, 1), (), 0)])
    rows = [Row(0, 150, words(4, 2)), Row(1, 0, words(14, 3))]
    assert [logits.shape for logits in backend.run(rows)] == [(1, VOCAB)] * 2
    monkeypatch.setattr("exaone_ros.engine.backends.tensorrt.room", lambda *_: 160)
    with pytest.raises(Exception, match=r"writes end at|out of data bounds"):
        backend.run(rows)
