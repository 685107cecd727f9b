"""The best opset is what the installed runtime really runs, and an ancient runtime is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import pytest

from exaone_ros.engine.backends.onnx_support import best_opset
from exaone_ros.errors import EngineError


def runtime_up_to(opset: int) -> Any:
    """A runtime that loads nothing beyond an opset."""

    def load(model: bytes, *_: Any, **__: Any) -> None:
        if onnx.load_from_string(model).opset_import[0].version > opset:
            raise RuntimeError("unsupported")

    return SimpleNamespace(InferenceSession=load, SessionOptions=SimpleNamespace, __version__="1.0")


@pytest.mark.parametrize(("newest", "chosen"), [(30, 24), (24, 24), (23, 23), (22, 20), (20, 20), (19, 18), (18, 18)])
def test_the_latest_opset_that_loads_is_chosen(newest: int, chosen: int) -> None:
    assert best_opset(runtime_up_to(newest)) == chosen


def test_a_runtime_that_is_too_old_is_named() -> None:
    with pytest.raises(EngineError, match=r"onnxruntime 1\.0 does not run ONNX opset 18"):
        best_opset(runtime_up_to(17))


def test_the_installed_runtime_has_one() -> None:
    assert best_opset(onnxruntime) >= 23
