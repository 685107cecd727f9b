"""Compiling: what is checked before a build, what is found again, and what a changed checkpoint does."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.tensorrt.fake_cuda import FakeCuda
from engine.tensorrt.fake_tensorrt import Config, fake_library
from model.tiny_checkpoint import write_checkpoint

from exaone_ros.engine.tensorrt import cache as caching
from exaone_ros.engine.tensorrt import compile as compiling
from exaone_ros.engine.tensorrt import scales as scaling
from exaone_ros.engine.tensorrt.compile import compile_checkpoint, find_compiled, free_memory, gpu_of
from exaone_ros.engine.tensorrt.memory import estimate
from exaone_ros.engine.tensorrt.plan import Capacity
from exaone_ros.engine.tensorrt.versions import Library
from exaone_ros.errors import EngineError
from exaone_ros.model.awq import InputScales
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.precision import precision

CAPACITY = Capacity(slots=2, context=64, chunk=16, visual_tokens=16)
PLENTY = 1 << 40


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path / "checkpoint"))


def compiled(checkpoint: Checkpoint, library: Library, root: Path, name: str = "int4", **options: object) -> object:
    settings = {"root": root, "available_bytes": lambda: PLENTY, **options}
    return compile_checkpoint(checkpoint, library, FakeCuda().device(), precision(name), CAPACITY, **settings)  # type: ignore[arg-type]


def test_a_second_compile_finds_what_the_first_built(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library, phases = fake_library(FakeCuda()), []
    first = compiled(checkpoint, library, tmp_path / "e", progress=lambda phase, done: phases.append((phase, done)))
    assert library.module.builds == 2 and first.built  # type: ignore[attr-defined]
    assert phases == [("Building", 0.5), ("Building", 1.0)] * 2
    assert library.module.last_config.limits == {"workspace": 1 << 30}
    assert not compiled(checkpoint, library, tmp_path / "e").built  # type: ignore[attr-defined]
    assert library.module.builds == 2
    found = find_compiled(checkpoint, library, FakeCuda().device(), slots=2, context=60, root=tmp_path / "e")
    assert (found.vision, found.decoder) == (first.vision, first.decoder)  # type: ignore[attr-defined]
    assert found.capacity == CAPACITY and found.precision.name == "int4"


def test_precisions_share_the_vision_engine(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library = fake_library(FakeCuda())
    for name in ("int4", "float16", "int8"):
        compiled(checkpoint, library, tmp_path / "e", name)
    assert library.module.builds == 4


def some_scales(value: float = 2.0) -> InputScales:
    return InputScales({"text.layers.0.mlp.up_proj": np.full(64, value, np.float32)})


def test_engines_with_scales_are_others_and_are_found_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library, root = fake_library(FakeCuda()), tmp_path / "e"
    plain = compiled(checkpoint, library, root)
    scaled = compiled(checkpoint, library, root, scales=some_scales())
    assert scaled.vision == plain.vision and scaled.decoder != plain.decoder  # type: ignore[attr-defined]
    assert compiled(checkpoint, library, root, scales=some_scales(3.0)).built  # type: ignore[attr-defined]
    assert not compiled(checkpoint, library, root, scales=some_scales()).built  # type: ignore[attr-defined]
    os.utime(scaled.decoder.parent / "manifest.json")  # type: ignore[attr-defined]
    found = find_compiled(checkpoint, library, FakeCuda().device(), slots=2, context=64, root=root)
    assert found.decoder == scaled.decoder, "the newest is taken"  # type: ignore[attr-defined]
    for path in root.glob("scales-*.npz"):
        path.unlink()
    found = find_compiled(checkpoint, library, FakeCuda().device(), slots=2, context=64, root=root)
    assert found.decoder == plain.decoder, "what an engine was scaled with is gone: it is another's"  # type: ignore[attr-defined]


def test_scales_for_plain_weights_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="'float16' quantises nothing"):
        compiled(checkpoint, fake_library(FakeCuda()), tmp_path, "float16", scales=some_scales())


def test_a_search_is_done_once(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    monkeypatch.setattr(scaling, "calibrate", lambda *a, **o: (searches.append(1), some_scales())[1])
    frames = [np.zeros((28, 28, 3), np.uint8)]
    for fingerprint, name in (("a", "int4"), ("a", "int4"), ("b", "int4"), ("a", "int8")):
        found = scaling.calibrated_scales(checkpoint, precision(name), frames, tmp_path / "e", fingerprint)
        assert found.digest == some_scales().digest
    assert len(searches) == 3
    scaling.calibrated_scales(checkpoint, precision("int4"), [frames[0] + 1], tmp_path / "e", "a")
    assert len(searches) == 4
    (tmp_path / "e" / scaling.CALIBRATIONS).write_text("{")
    scaling.calibrated_scales(checkpoint, precision("int4"), frames, tmp_path / "e", "a")
    assert len(searches) == 5
    with pytest.raises(EngineError, match="'bfloat16' quantises nothing: leave --calibrate out"):
        scaling.calibrated_scales(checkpoint, precision("bfloat16"), frames, tmp_path / "e", "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"file/e cannot be written; choose another with --cache"):
        scaling.calibrated_scales(checkpoint, precision("int4"), frames, tmp_path / "file" / "e", "a")
    assert len(searches) == 5, "nothing is searched that cannot be kept"


def test_nothing_is_left_of_the_graphs(checkpoint: Checkpoint, tmp_path: Path) -> None:
    compiled(checkpoint, fake_library(FakeCuda()), tmp_path / "e")
    assert not list((tmp_path / "e").rglob("*.onnx*"))
    assert (tmp_path / "e" / "timing-tensorrt-10.16.1.11.cache").read_bytes() == b"timings"


def _compile_and_die(checkpoint: Checkpoint, root: Path, at: str) -> None:
    """In a process of its own: killed while the library builds, or before the timings are in their place."""

    replace = Path.replace

    def die(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def replace_or_die(path: Path, target: Path) -> Path:
        return replace(path, target) if path.name != "timings" else die()  # type: ignore[return-value,func-returns-value]

    library = fake_library(FakeCuda())
    if at == "building":
        library.module.Builder.build_serialized_network = die
    else:
        Path.replace = replace_or_die  # type: ignore[method-assign]
    compiled(checkpoint, library, root)


@pytest.mark.parametrize("at", ["building", "timings"])
def test_a_killed_build_leaves_nothing_half(checkpoint: Checkpoint, tmp_path: Path, at: str) -> None:
    """Neither an engine nor timings; the graph with its weights, as large as the model, goes with the next build."""
    root, library = tmp_path / "e", fake_library(FakeCuda())
    timings = root / "timing-tensorrt-10.16.1.11.cache"
    compiled(checkpoint, library, root, "float16")
    timings.write_bytes(b"of the build before")
    worker = multiprocessing.get_context("fork").Process(target=_compile_and_die, args=(checkpoint, root, at))
    worker.start()
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    assert timings.read_bytes() == b"of the build before"
    assert len(list(root.glob(".building-*/graph.onnx*"))) >= 1, "it was killed while it built"
    assert len(list(root.glob("*/engine.plan"))) == 2, "those of the build before"
    assert compiled(checkpoint, library, root).built  # type: ignore[attr-defined]
    assert timings.read_bytes() == b"timings"
    assert not list(root.glob(".building-*")) and len(list(root.glob("*/engine.plan"))) == 3


def _compile_and_log(checkpoint: Checkpoint, root: Path, log: Path, go: Any) -> None:
    library = fake_library(FakeCuda())
    build = library.module.Builder.build_serialized_network

    def logged(*arguments: object) -> bytes:
        with log.open("a") as file:
            file.write("built\n")
        return build(*arguments)

    library.module.Builder.build_serialized_network = logged
    go.wait()
    compiled(checkpoint, library, root)


def test_two_that_compile_at_once_build_each_engine_once(checkpoint: Checkpoint, tmp_path: Path) -> None:
    fork, log = multiprocessing.get_context("fork"), tmp_path / "log"
    go = fork.Event()
    arguments = (checkpoint, tmp_path / "e", log, go)
    workers = [fork.Process(target=_compile_and_log, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    go.set()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert log.read_text() == "built\n" * 2, "vision encoder and decoder"
    assert not compiled(checkpoint, fake_library(FakeCuda()), tmp_path / "e").built  # type: ignore[attr-defined]


def test_timings_that_cannot_be_kept_do_not_stop_a_build(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "e" / "timing-tensorrt-10.16.1.11.cache" / "in the way").mkdir(parents=True)
    assert compiled(checkpoint, fake_library(FakeCuda()), tmp_path / "e").built  # type: ignore[attr-defined]
    assert "timings of kernels cannot be kept" in caplog.text


@pytest.mark.parametrize("made", [None, RuntimeError("bad blob")])
def test_damaged_timings_are_thrown_away_with_a_word(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, made: Any
) -> None:
    """The library makes nothing of them, or refuses; they are written anew behind the build."""
    create = Config.create_timing_cache

    def strict(config: Config, blob: bytes) -> Any:
        if blob != b"damaged":
            return create(config, blob)
        if made is not None:
            raise made
        return None

    monkeypatch.setattr(Config, "create_timing_cache", strict)
    timings = tmp_path / "e" / "timing-tensorrt-10.16.1.11.cache"
    timings.parent.mkdir()
    timings.write_bytes(b"damaged")
    assert compiled(checkpoint, fake_library(FakeCuda()), tmp_path / "e").built  # type: ignore[attr-defined]
    assert f"timings of kernels in {timings} are not used" in caplog.text
    assert timings.read_bytes() == b"timings"


def test_an_engine_whose_manifest_is_of_another_kind_is_passed_over(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library, root = fake_library(FakeCuda()), tmp_path / "e"
    compiled(checkpoint, library, root)
    strange = root / "decoder-strange"
    strange.mkdir()
    for manifest in ({}, {"capacity": {"rows": 3}}, {"capacity": {}, "precision": "int3"}):
        (strange / "manifest.json").write_text(json.dumps({"format": 1, "name": "decoder", **manifest}))
        find_compiled(checkpoint, library, FakeCuda().device(), slots=2, context=64, root=root)
        assert f"{strange / 'manifest.json'} is damaged" in refusal(checkpoint, library, root, precision="float16")


def test_a_disk_that_is_full_at_the_end_is_no_reason_to_read_the_weights_in_vain(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    known = compiling.remembered_fingerprint(checkpoint, tmp_path / "other")
    monkeypatch.setattr(Path, "write_bytes", full)
    assert compiling.remembered_fingerprint(checkpoint, tmp_path) == known
    assert not list(tmp_path.glob(".finger*"))


def test_a_load_reads_neither_weights_nor_plans_again(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed is known by path, size and time, also where the cache cannot be written by now."""
    library, root = fake_library(FakeCuda()), tmp_path / "e"
    compiled(checkpoint, library, root)
    where = {"slots": 2, "context": 64, "root": root}
    first = find_compiled(checkpoint, library, FakeCuda().device(), **where)  # type: ignore[arg-type]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(Checkpoint, "fingerprint", lambda self: pytest.fail("the weights were read"))
    monkeypatch.setattr(caching, "file_hash", lambda path: pytest.fail("an engine was read"))
    assert find_compiled(checkpoint, library, FakeCuda().device(), **where) == first  # type: ignore[arg-type]
    os.utime(checkpoint.directory / "model.safetensors", ns=(1, 1))
    with pytest.raises(pytest.fail.Exception, match="the weights were read"):
        find_compiled(checkpoint, library, FakeCuda().device(), **where)  # type: ignore[arg-type]


def refusal(checkpoint: Checkpoint, library: Library, root: Path, gpu: str = "Fake GPU", **options: str) -> str:
    with pytest.raises(EngineError) as caught:
        find_compiled(checkpoint, library, FakeCuda(gpu).device(), slots=2, context=64, root=root, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_engines_that_do_not_fit_are_refused_with_the_reason(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library, root = fake_library(FakeCuda()), tmp_path / "e"
    assert "no engines for" in refusal(checkpoint, library, root)
    compiled(checkpoint, library, root)
    assert "was built by tensorrt 10.16.1.11" in refusal(checkpoint, fake_library(FakeCuda(), "11.4.0"), root)
    assert "was built for Fake GPU sm_90" in refusal(checkpoint, library, root, gpu="Orin")
    assert "is in int4" in refusal(checkpoint, library, root, precision="float16")


def test_a_checkpoint_changed_under_the_cache_is_noticed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library, root = fake_library(FakeCuda()), tmp_path / "e"
    compiled(checkpoint, library, root)
    changed = Checkpoint.open(write_checkpoint(checkpoint.directory, seed=1))
    assert "was built before the checkpoint changed" in refusal(changed, library, root)
    compiled(changed, library, root)
    find_compiled(changed, library, FakeCuda().device(), slots=2, context=64, root=root)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_engines_are_others_where_the_pictures_are_normalised_otherwise(
    checkpoint: Checkpoint, tmp_path: Path, name: str
) -> None:
    """Mean and deviation are folded into the vision engine, from whichever file they are read."""
    own = checkpoint.directory / "preprocessor_config.json"
    raw = json.loads(own.read_text())
    own.unlink()
    library, root = fake_library(FakeCuda()), tmp_path / "e"

    def write(mean: float) -> None:
        changed = {**raw, "image_mean": [mean] * 3}
        text = json.dumps({"image_processor": changed} if name.startswith("processor") else changed)
        (checkpoint.directory / name).write_text(text)

    write(0.5)
    first = compiled(checkpoint, library, root)
    write(0.25)
    assert compiled(checkpoint, library, root).vision != first.vision  # type: ignore[attr-defined]
    write(0.5)
    assert compiled(checkpoint, library, root).vision == first.vision  # type: ignore[attr-defined]


def test_weights_are_read_for_their_hash_once(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compiling.remembered_fingerprint(checkpoint, tmp_path)
    monkeypatch.setattr(Checkpoint, "fingerprint", lambda self: "other")
    assert compiling.remembered_fingerprint(checkpoint, tmp_path) == first
    os.utime(checkpoint.directory / "model.safetensors", ns=(1, 1))
    assert compiling.remembered_fingerprint(checkpoint, tmp_path) != first


def test_too_little_memory_is_said_before_the_build(checkpoint: Checkpoint, tmp_path: Path) -> None:
    library = fake_library(FakeCuda())
    with pytest.raises(EngineError, match=r"main memory: 0\.1 GB free, but the build needs 1\.0 GB"):
        compiled(checkpoint, library, tmp_path / "e", available_bytes=lambda: 10**8)
    small = FakeCuda(total_bytes=10**8).device()
    with pytest.raises(EngineError, match=r"memory of Fake GPU: 0\.1 GB free, but the build needs 0\.6 GB"):
        compile_checkpoint(
            checkpoint, library, small, precision("int4"), CAPACITY, root=tmp_path / "e", available_bytes=lambda: PLENTY
        )
    assert library.module.builds == 0


def test_too_little_disk_is_said_before_the_build(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling.shutil, "disk_usage", lambda path: type("U", (), {"free": 1000})())
    with pytest.raises(EngineError, match=r"disk in .*: 0\.0 GB free"):
        compiled(checkpoint, fake_library(FakeCuda()), tmp_path / "e")


def test_tensorrt_needs_the_gpu_and_rtx_does_not() -> None:
    rtx = fake_library(FakeCuda(), "1.7.1.116", "tensorrt_rtx")
    assert gpu_of(rtx, None) == "any" == gpu_of(rtx, FakeCuda().device())
    with pytest.raises(EngineError, match=r"run exaone compile on the robot, or install TensorRT-RTX"):
        gpu_of(fake_library(FakeCuda()), None)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "int4", "int8", "fp8", "nvfp4"])
def test_computed_weights_are_what_the_graphs_hold(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    library = fake_library(FakeCuda())
    jobs = compiling.plan_jobs(checkpoint, library, FakeCuda().device(), precision(name), CAPACITY, tmp_path)
    need = estimate(checkpoint.config, precision(name), CAPACITY)
    for job, computed in zip(jobs, (need.vision_weights, need.decoder_weights), strict=True):
        # Norms are left out: 6% of a model this small, nothing in a real one.
        assert computed == pytest.approx(job.graph.weight_bytes, rel=0.07)


def test_free_memory_is_a_number_of_bytes() -> None:
    assert 1 << 26 < free_memory() < 1 << 46
