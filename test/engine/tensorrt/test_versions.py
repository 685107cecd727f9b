"""The table of versions, and that every name the code uses exists in the real bindings of each version."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from exaone_ros.cli import doctor
from exaone_ros.engine.tensorrt import build, session, versions
from exaone_ros.engine.tensorrt.versions import TARGETS, load_library, target_for
from exaone_ros.errors import EngineError, MissingExtra
from exaone_ros.model.decoder_graph import KvWrite
from exaone_ros.model.precision import PRECISIONS

DUMPS = Path(__file__).parents[2] / "data" / "tensorrt_api"
# What a variable of this name is an instance of, in the modules that talk to TensorRT.
CLASSES = {
    "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig",
    "profile": "IOptimizationProfile", "engine": "ICudaEngine", "context": "IExecutionContext",
    "_runtime": "Runtime", "_engine": "ICudaEngine",
}  # fmt: skip


def dump(version: str) -> dict[str, list[str]]:
    return json.loads((DUMPS / f"{version}.json").read_text())["classes"]


def uses(module: object) -> set[tuple[str, str]]:
    """(class, member) for each member of TensorRT that a module's source touches."""
    found: set[tuple[str, str]] = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):  # type: ignore[attr-defined]
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "trt":
            found.add((owner.attr, node.attr))
        elif isinstance(owner, ast.Name) and owner.id == "trt":
            found.add((node.attr, ""))
        elif isinstance(owner, (ast.Name, ast.Attribute)):
            name = owner.id if isinstance(owner, ast.Name) else owner.attr
            if name in CLASSES:
                found.add((CLASSES[name], node.attr))
    return found


@pytest.mark.parametrize("version", ["10.3", "10.13", "10.16", "11.4"])
def test_every_name_exists_in_the_real_bindings(version: str) -> None:
    classes = dump(version)
    # The logger's severities are attributes of the class, which pybind lists on ILogger itself.
    for owner, member in sorted(uses(build) | uses(session)):
        assert owner in classes, f"TensorRT {version} has no {owner}"
        assert not member or member == "__init__" or member in classes[owner], (
            f"TensorRT {version} has no {owner}.{member}"
        )


def test_the_scan_sees_what_the_code_uses() -> None:
    """A scan that finds nothing would pass on every version."""
    found = uses(build) | uses(session)
    assert ("IBuilderConfig", "progress_monitor") in found and ("MemoryPoolType", "WORKSPACE") in found
    assert ("IExecutionContext", "execute_async_v3") in found and ("Runtime", "deserialize_cuda_engine") in found
    assert len(found) > 30


def test_monitor_and_logger_have_the_methods_that_tensorrt_calls() -> None:
    for version in ("10.3", "11.4"):
        assert set(dump(version)["IProgressMonitor"]) == {"phase_start", "step_complete", "phase_finish"}


def test_what_the_table_says_of_the_bindings_is_so() -> None:
    """Layers for the KV update, attention and rotation came with the versions at which the table changes."""
    assert "IKVCacheUpdateLayer" not in dump("10.13") and "IKVCacheUpdateLayer" in dump("10.16")
    assert "IAttention" not in dump("10.13") and {"IAttention", "IRotaryEmbeddingLayer"} <= dump("10.16").keys()
    assert "FP4" not in dump("10.3")["DataType"] and "FP4" in dump("10.13")["DataType"]
    assert "get_aliased_input_tensor" not in dump("10.13")["ICudaEngine"]
    assert "FP16" not in dump("11.4")["BuilderFlag"], "strongly typed networks are the only ones from 11 on"
    for version in ("10.3", "10.13", "10.16", "11.4"):
        assert "STRONGLY_TYPED" in dump(version)["NetworkDefinitionCreationFlag"]


@pytest.mark.parametrize(
    ("library", "version", "opset", "aliased"),
    [
        ("tensorrt", "10.3.0", 20, False),
        ("tensorrt", "10.13.3.9", 20, False),
        ("tensorrt", "10.16.1.11", 24, True),
        ("tensorrt", "11.4.0.106", 24, True),
        ("tensorrt_rtx", "1.7.1.116", 24, True),
    ],
)
def test_versions_find_their_row(library: str, version: str, opset: int, aliased: bool) -> None:
    target = target_for(library, version)
    assert (target.opset, target.aliased_kv) == (opset, aliased)
    assert (target.kv_write is KvWrite.TENSOR_SCATTER) == aliased


@pytest.mark.parametrize(
    ("library", "version"), [("tensorrt", "8.6.1"), ("tensorrt", "12.0"), ("tensorrt_rtx", "1.0"), ("tensorrt", "?")]
)
def test_an_unknown_version_is_refused(library: str, version: str) -> None:
    with pytest.raises(EngineError, match=rf"{library} is version .*; expected "):
        target_for(library, version)


def test_no_target_takes_float32() -> None:
    assert not any(
        target.accepts(PRECISIONS["float32"]) or target.accepts(PRECISIONS["int4-float32"]) for target in TARGETS
    )
    assert all(target.accepts(PRECISIONS["bfloat16"]) for target in TARGETS)
    assert not target_for("tensorrt", "10.3").accepts(PRECISIONS["nvfp4"])


def test_int4_needs_a_later_opset_than_the_rest_of_an_old_target() -> None:
    assert target_for("tensorrt", "10.3").opset_for(PRECISIONS["int4"]) == 21


def test_no_tensorrt_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "MODULES", {"tensorrt": ("no_such_trt",), "tensorrt_rtx": ("no_such_rtx",)})
    with pytest.raises(MissingExtra, match=r"exaone_ros\[tensorrt\].* or .*exaone_ros\[tensorrt-rtx\]"):
        load_library()


def test_of_two_libraries_the_one_is_taken_that_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fake_trt.py").write_text("__version__ = '10.16.1'")
    (tmp_path / "fake_rtx.py").write_text("__version__ = '1.7.1'")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(versions, "MODULES", {"tensorrt": ("fake_trt",), "tensorrt_rtx": ("no_rtx", "fake_rtx")})
    monkeypatch.delenv("EXAONE_TENSORRT", raising=False)
    assert load_library().name == "tensorrt"
    monkeypatch.setenv("EXAONE_TENSORRT", "tensorrt_rtx")
    assert load_library().name == "tensorrt_rtx" and load_library(["tensorrt"]).name == "tensorrt"
    assert doctor._tensorrt().startswith("tensorrt_rtx 1.7.1 (tensorrt is installed, too: EXAONE_TENSORRT=tensorrt")
    monkeypatch.setenv("EXAONE_TENSORRT", "cudnn")
    with pytest.raises(EngineError, match="EXAONE_TENSORRT is 'cudnn'; expected tensorrt or tensorrt_rtx"):
        load_library()
    monkeypatch.setattr(versions, "MODULES", {"tensorrt": ("fake_trt",), "tensorrt_rtx": ("no_rtx",)})
    monkeypatch.delenv("EXAONE_TENSORRT")
    assert "installed, too" not in doctor._tensorrt()
    monkeypatch.setenv("EXAONE_TENSORRT", "tensorrt_rtx")
    with pytest.raises(MissingExtra, match=r"exaone_ros\[tensorrt-rtx\]"):
        load_library()


def test_a_folder_of_that_name_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty_trt").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(versions, "MODULES", {"tensorrt": ("empty_trt",)})
    with pytest.raises(EngineError, match="'empty_trt' is not NVIDIA's"):
        load_library(["tensorrt"])


def test_broken_libraries_are_told_from_missing_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_trt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(versions, "MODULES", {"tensorrt": ("broken_trt",)})
    with pytest.raises(EngineError, match="broken_trt is installed, but its libraries cannot be loaded: libnvinfer"):
        load_library(["tensorrt"])
