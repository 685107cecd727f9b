"""The little of CUDA that running an engine takes, as a seam: a Protocol, and the real one over libcudart by ctypes.

Addresses and handles are plain integers. ctypes instead of a CUDA package: every machine with TensorRT has libcudart,
Jetsons included.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import EngineError

_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3  # cudaMemcpyKind
_CAPTURE_THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal: other threads' CUDA calls do not break the capture
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapability*
_LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")


@dataclass(frozen=True)
class Device:
    """A GPU: its name, compute capability such as (9, 0), and memory in bytes."""

    name: str
    capability: tuple[int, int]
    total_bytes: int
    free_bytes: int


class Cuda(Protocol):
    """Memory, copies and graphs of one device. Calls with a stream return before the work is done."""

    def device(self) -> Device: ...
    def malloc(self, size: int) -> int: ...
    def free(self, address: int) -> None: ...
    def pinned(self, size: int) -> NDArray[np.uint8]:
        """Host memory that copies need not stage, uint8 [size]."""
        ...

    def free_pinned(self, memory: NDArray[np.uint8]) -> None: ...
    def stream(self) -> int: ...
    def free_stream(self, stream: int) -> None: ...
    def synchronize(self, stream: int) -> None: ...
    def zero(self, address: int, size: int, stream: int) -> None: ...
    def upload(self, address: int, source: NDArray[np.uint8], stream: int) -> None: ...
    def download(self, target: NDArray[np.uint8], address: int, stream: int) -> None: ...
    def copy(self, target: int, source: int, size: int, stream: int) -> None: ...
    def copy_rows(self, target: int, source: int, pitch: int, width: int, rows: int, stream: int) -> None:
        """Copy the first `width` bytes of each of `rows` rows that lie `pitch` bytes apart."""
        ...

    def capture(self, work: Callable[[], None], stream: int) -> int:
        """Record what `work` puts on the stream as a graph instead of running it."""
        ...

    def launch(self, graph: int, stream: int) -> None: ...
    def free_graph(self, graph: int) -> None: ...


class CudaRuntime:
    """`Cuda` over libcudart."""

    def __init__(self, device: int = 0) -> None:
        """Load the library and choose a device for this thread and this process's allocations.

        Raises:
            EngineError: no libcudart, no driver, or no such device.
        """
        self._library = _load()
        self._number = device
        self._current = threading.local()
        count = ctypes.c_int()
        status = self._library.cudaGetDeviceCount(ctypes.byref(count))
        if status or not count.value:
            raise EngineError(f"no CUDA device: {self._text(status)}; is there an NVIDIA GPU, and its driver?")
        if device >= count.value:
            raise EngineError(f"CUDA device {device} does not exist; this machine has {count.value}")
        self.use()
        self._pinned: dict[int, ctypes.c_void_p] = {}

    def use(self) -> None:
        """Make the device current in the calling thread: CUDA keeps that for each thread, 0 until it is told."""
        self._current.chosen = True
        self._call("cudaSetDevice", self._number)

    def device(self) -> Device:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        properties = ctypes.create_string_buffer(8192)  # the struct grew over the versions; it begins with the name
        name = "unknown GPU"
        if self._library.cudaGetDeviceProperties(properties, self._number) == 0:
            name = properties.raw[:256].split(b"\0")[0].decode(errors="replace")
        values = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, self._number)
            values.append(value.value)
        return Device(name, (values[0], values[1]), total.value, free.value)

    def malloc(self, size: int) -> int:
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(size), what=f"{size / 1e6:.1f} MB")
        return int(pointer.value or 0)

    def free(self, address: int) -> None:
        self._call("cudaFree", ctypes.c_void_p(address))

    def pinned(self, size: int) -> NDArray[np.uint8]:
        pointer = ctypes.c_void_p()
        self._call("cudaHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(size), 0, what=f"{size / 1e6:.1f} MB")
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(pointer.value or 0)))
        self._pinned[memory.ctypes.data] = pointer
        return memory

    def free_pinned(self, memory: NDArray[np.uint8]) -> None:
        self._call("cudaFreeHost", self._pinned.pop(memory.ctypes.data))

    def stream(self) -> int:
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreateWithFlags", ctypes.byref(handle), 1)  # does not wait for the default stream
        return int(handle.value or 0)

    def free_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def zero(self, address: int, size: int, stream: int) -> None:
        self._call("cudaMemsetAsync", ctypes.c_void_p(address), 0, ctypes.c_size_t(size), ctypes.c_void_p(stream))

    def upload(self, address: int, source: NDArray[np.uint8], stream: int) -> None:
        self._copy(address, source.ctypes.data, source.nbytes, _TO_DEVICE, stream)

    def download(self, target: NDArray[np.uint8], address: int, stream: int) -> None:
        self._copy(target.ctypes.data, address, target.nbytes, _TO_HOST, stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        self._copy(target, source, size, _ON_DEVICE, stream)

    def copy_rows(self, target: int, source: int, pitch: int, width: int, rows: int, stream: int) -> None:
        sizes = [ctypes.c_size_t(n) for n in (pitch, width, rows)]
        to, came = ctypes.c_void_p(target), ctypes.c_void_p(source)
        self._call(
            "cudaMemcpy2DAsync", to, sizes[0], came, sizes[0], sizes[1], sizes[2], _ON_DEVICE, ctypes.c_void_p(stream)
        )

    def capture(self, work: Callable[[], None], stream: int) -> int:
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamBeginCapture", ctypes.c_void_p(stream), _CAPTURE_THREAD_LOCAL)
        try:
            work()
        finally:
            self._call("cudaStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call("cudaGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cudaGraphDestroy", graph)
        return int(executable.value or 0)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def free_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", ctypes.c_void_p(graph))

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        to, came = ctypes.c_void_p(target), ctypes.c_void_p(source)
        self._call("cudaMemcpyAsync", to, came, ctypes.c_size_t(size), kind, ctypes.c_void_p(stream))

    def _call(self, function: str, *arguments: Any, what: str = "") -> None:
        if not getattr(self._current, "chosen", False):
            self.use()  # opened in one thread, run in another
        status = getattr(self._library, function)(*arguments)
        if status:
            raise EngineError(f"{function}{f' of {what}' if what else ''} failed: {self._text(status)}")

    def _text(self, status: int) -> str:
        return f"{self._library.cudaGetErrorString(status).decode(errors='replace')} (CUDA error {status})"


def _load() -> Any:
    names = [*_LIBRARIES, ctypes.util.find_library("cudart") or ""]
    for name in filter(None, names):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.cudaGetErrorString.restype = ctypes.c_char_p
        return library
    raise EngineError(
        f"none of {', '.join(_LIBRARIES)} was found: install the CUDA runtime (part of JetPack; elsewhere "
        "pip install nvidia-cuda-runtime and put its lib folder on LD_LIBRARY_PATH)"
    )
