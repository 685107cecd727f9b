"""Denormal numbers are zero where ONNX Runtime computes, and what they are everywhere else."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading

import numpy as np
import pytest

from exaone_ros.engine.backends.denormals import Flushed

X86_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"


def tiny_product() -> float:
    """Half of a number that is too small to be normal."""
    return float((np.full(4, 1e-40, np.float32) * np.float32(0.5))[0])


@pytest.mark.skipif(not X86_LINUX, reason="the mode is set on x86-64 Linux only")
def test_the_mode_is_on_inside_only() -> None:
    flushed = Flushed()
    for _ in range(2):
        with flushed:
            assert tiny_product() == 0
        assert tiny_product() > 0


def test_the_mode_is_off_again_behind_an_error() -> None:
    with pytest.raises(RuntimeError, match="broken"), Flushed():
        raise RuntimeError("broken")
    assert tiny_product() > 0


def test_other_threads_keep_their_arithmetic() -> None:
    found: list[float] = []
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        inside.wait(60)
        found.append(tiny_product())
        done.set()

    other = threading.Thread(target=work)
    other.start()  # before the mode is on: a thread begins with the mode of the one that starts it
    with Flushed():
        inside.set()
        done.wait(60)
    other.join()
    assert len(found) == 1 and found[0] > 0


OPENED = """
import numpy as np, onnxruntime
from exaone_ros.engine.backends.denormals import flush_in_threads
from onnx import TensorProto, helper

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
options = onnxruntime.SessionOptions()
flush_in_threads(onnxruntime, options)
onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
print((np.full(4, 1e-40, np.float32) * np.float32(0.5))[0] > 0)
"""


def test_a_session_leaves_the_arithmetic_of_its_maker_alone() -> None:
    """Also the first one of a process, which ONNX Runtime lets decide for the thread that makes it."""
    pytest.importorskip("onnxruntime")
    done = subprocess.run([sys.executable, "-c", OPENED], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True", done.stderr
