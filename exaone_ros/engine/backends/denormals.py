"""Numbers too small to be normal, taken as zero while ONNX Runtime computes.

Its softmax leaves about 1e-39 behind a mask instead of zero, and x86 processors multiply such numbers at a fraction of
their speed: reading a prompt took a fifth longer for nothing (measured on one core). Who calls keeps exact arithmetic:
the mode belongs to a thread, and is on only inside of `with Flushed()` and in ONNX Runtime's own threads.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from types import TracebackType
from typing import Any

from onnx import TensorProto, helper

_FLUSH_TO_ZERO, _DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
_MXCSR = 7  # fenv_t of x86-64: the seven words of the x87 unit, then the register that counts here
_Environment = ctypes.c_uint32 * 16  # more than any C library's fenv_t takes


class Flushed:
    """`with` it, the calling thread takes denormal numbers as zero; where a platform has no such mode, nothing changes.

    May be used again and again, by one thread at a time, not inside of itself.
    """

    def __init__(self) -> None:
        self._library = _fenv()
        self._before, self._inside = _Environment(), _Environment()

    def __enter__(self) -> None:
        if self._library is not None:
            self._library.fegetenv(self._before)
            self._library.fegetenv(self._inside)
            self._inside[_MXCSR] |= _FLUSH_TO_ZERO | _DENORMALS_ARE_ZERO
            self._library.fesetenv(self._inside)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._library is not None:
            self._library.fesetenv(self._before)


@cache
def _fenv() -> Any:
    """The C library of floating-point environments, or None where their layout is not known."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    # PyDLL: letting go of the interpreter's lock would cost more than the calls do.
    for name in (None, "libm.so.6"):
        try:
            library = ctypes.PyDLL(name)
        except OSError:
            continue
        if hasattr(library, "fegetenv") and hasattr(library, "fesetenv"):
            return library
    return None


def flush_in_threads(runtime: Any, options: Any) -> None:
    """Let the threads of a session take denormal numbers as zero.

    Args:
        runtime: the module `onnxruntime`.
        options: of the session, which is not made yet.
    """
    _decide_for_this_thread(runtime)
    options.add_session_config_entry("session.set_denormal_as_zero", "1")


@cache
def _decide_for_this_thread(runtime: Any) -> None:
    """Make a session without the mode.

    The first session of a process sets the mode of the thread that makes it, as it wants it itself, and for ever.
    """
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "first", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
