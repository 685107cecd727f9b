"""What can be wrong with a machine, a cache or a checkpoint: each is one line that says what to do, and a status."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine.tensorrt.fake_cuda import FakeCuda
from engine.tensorrt.fake_tensorrt import fake_library
from model.published_checkpoint import write_published
from model.tiny_checkpoint import write_checkpoint

from exaone_ros.cli.main import INTERRUPTED, main
from exaone_ros.engine.tensorrt import compile as compiling
from exaone_ros.engine.tensorrt import cuda, versions

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `exaone compile` on a small checkpoint with a fake TensorRT and GPU; status and what was complained of."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    library = fake_library(FakeCuda())
    monkeypatch.setattr(versions, "load_library", lambda names: library)
    monkeypatch.setattr(cuda, "CudaRuntime", lambda number=0: FakeCuda())
    monkeypatch.setattr(compiling, "free_memory", lambda: 1 << 40)

    def compile_it(*arguments: str, cache: Path | None = None) -> tuple[int, str]:
        sizes = ["--slots", "2", "--context", "64", "--chunk", "16", "--visual-tokens", "16"]
        status = main(["compile", str(checkpoint), "--cache", str(cache or tmp_path / "engines"), *sizes, *arguments])
        return status, capsys.readouterr().err

    return compile_it


def complaint(found: tuple[int, str]) -> str:
    status, error = found
    assert status == 1 and error.count("\n") == 1 and error.startswith("exaone compile: ")
    return error


def test_the_fake_machine_itself_is_in_order(run: Run) -> None:
    assert run() == (0, "")


def test_no_tensorrt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(versions, "MODULES", {"tensorrt": ("no_such_trt",), "tensorrt_rtx": ("no_such_rtx",)})
    assert "TensorRT is not installed: pip install 'exaone_ros[tensorrt]'" in complaint(run())


def test_a_wrong_tensorrt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="8.6.1"))  # type: ignore[arg-type]
    assert "tensorrt is version 8.6.1; expected 10.3 to below 10.13" in complaint(run())


def test_a_tensorrt_without_the_precision(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "load_library", lambda names: fake_library(FakeCuda(), "10.3.0"))
    assert "precision 'nvfp4' cannot be built by tensorrt 10.3" in complaint(run("--precision", "nvfp4"))


def test_no_gpu(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(versions, "load_library", lambda names: fake_library(FakeCuda()))
    monkeypatch.setattr(cuda, "_LIBRARIES", ("libcudart.so.none",))
    monkeypatch.setattr(cuda.ctypes.util, "find_library", lambda name: None)
    assert "CUDA" in complaint(run())


def test_too_little_memory_for_the_build(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "free_memory", lambda: 10**8)
    assert "main memory: 0.1 GB free, but the build needs 1.0 GB; close other programs" in complaint(run())


def test_the_remedy_for_too_little_memory_fits_and_force_builds_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "free_memory", lambda: 10**8)
    assert "or build int4; --force" in complaint(run("--precision", "float16"))
    short = complaint(run("--precision", "int4"))
    assert "or build on a machine with more" in short and "build int4" not in short
    assert run("--force")[0] == 0
    assert "main memory: 0.1 GB free" in caplog.text and "the system may kill it" in caplog.text


def test_memory_of_the_gpu_that_others_hold_does_not_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    device = replace(FakeCuda().device(), free_bytes=10**8)
    monkeypatch.setattr(FakeCuda, "device", lambda self: device)
    error = complaint(run())
    assert "memory of Fake GPU: 0.1 GB free, but the build needs" in error
    assert "end what else uses it (it has 8.6 GB)" in error


def test_what_would_stop_the_build_is_said_before_the_calibration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint has no tokenizer: a calibration that began would say so."""
    np.save(tmp_path / "frames.npy", np.zeros((1, 56, 56, 3), np.uint8))
    calibrate = ("--precision", "int4", "--calibrate", str(tmp_path / "frames.npy"))
    assert "tokenizer.json" in complaint(run(*calibrate))
    monkeypatch.setattr(compiling, "free_memory", lambda: 10**8)
    assert "main memory: 0.1 GB free" in complaint(run(*calibrate))


def test_a_release_that_is_quantised_already_is_not_calibrated(run: Run, tmp_path: Path) -> None:
    write_published(tmp_path / "checkpoint", "awq")
    np.save(tmp_path / "frames.npy", np.zeros((1, 56, 56, 3), np.uint8))
    error = complaint(run("--precision", "int4", "--calibrate", str(tmp_path / "frames.npy")))
    assert "is quantised already (AWQ): calibrate the unquantised release" in error
    assert run("--precision", "int4")[0] == 0


def test_too_little_memory_on_the_device(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "CudaRuntime", lambda number=0: FakeCuda(total_bytes=10**8))
    assert "memory of Fake GPU: 0.1 GB free, but the build needs 0.6 GB; choose int4" in complaint(run())


def test_too_little_disk(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "0.0 GB free, but the build needs" in complaint(run())


def test_an_interrupted_build_leaves_nothing_and_can_be_repeated(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compiling, "build_engine", interrupted)
        status, error = run()
    assert (status, error) == (INTERRUPTED, "exaone compile: interrupted; no engine was left half built\n")
    assert not list((tmp_path / "engines").glob("*/*")) and not list((tmp_path / "engines").glob(".building-*"))
    assert run()[0] == 0


def test_a_cache_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in complaint(run(cache=tmp_path / "file" / "engines"))


def test_a_checkpoint_that_changed_is_built_again(run: Run, tmp_path: Path) -> None:
    """What the backend says of the engines of before is in test_compile.py."""
    assert run()[0] == 0
    before = {path.name for path in (tmp_path / "engines").iterdir()}
    write_checkpoint(tmp_path / "checkpoint", seed=1)
    assert run()[0] == 0
    new = {path.name for path in (tmp_path / "engines").iterdir()} - before
    assert len([name for name in new if not name.endswith(".lock")]) == 2


def test_an_engine_that_was_damaged_is_refused_until_a_rebuild(run: Run, tmp_path: Path) -> None:
    assert run()[0] == 0
    (plan,) = (tmp_path / "engines").glob("decoder-*/engine.plan")
    plan.write_bytes(b"short")
    assert "it is damaged, build it again: exaone compile --rebuild" in complaint(run())
    assert run("--rebuild")[0] == 0
