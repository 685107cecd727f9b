"""A device that is main memory: work waits on its stream until somebody synchronises, and every address is checked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.tensorrt.cuda import Device

GUARD = 4096  # bytes between two blocks that belong to nobody
ALIGNMENT = 256  # of every block, as cudaMalloc has it


class FakeCuda:
    """`Cuda` without a GPU. Anything out of order is an AssertionError."""

    def __init__(self, name: str = "Fake GPU", total_bytes: int = 1 << 33) -> None:
        self.name, self.total_bytes = name, total_bytes
        self.blocks: dict[int, NDArray[np.uint8]] = {}
        self.pinned_blocks: list[NDArray[np.uint8]] = []
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.streams: dict[int, list[Callable[[], None]]] = {}
        self.launches = self.captures = self.synchronizations = self.allocations = self.frees = 0
        self._next = 1 << 20
        self._recording: list[Callable[[], None]] | None = None
        self._checks: dict[int, list[Callable[[], None]]] = {}
        self._recorded_checks: list[Callable[[], None]] = []

    @property
    def host_waits(self) -> int:
        """How often the host waited for the device: where it was asked to, and where allocating does so unasked."""
        return self.synchronizations + self.allocations + self.frees

    @property
    def recording(self) -> bool:
        """A graph is being recorded."""
        return self._recording is not None

    def check_at_launch(self, check: Callable[[], None]) -> None:
        """Have something checked whenever the graph that is being recorded is launched."""
        self._recorded_checks.append(check)

    def device(self) -> Device:
        return Device(self.name, (9, 0), self.total_bytes, self.total_bytes)

    def malloc(self, size: int) -> int:
        self.allocations += 1
        address, self._next = self._next, -(-(self._next + size + GUARD) // ALIGNMENT) * ALIGNMENT
        self.blocks[address] = np.full(size, 0xFF, np.uint8)  # NaN, whatever it is read as
        return address

    def free(self, address: int) -> None:
        assert address in self.blocks, "freed twice or never allocated"
        assert not any(self.streams.values()), "freed while the stream may still use it"
        self.frees += 1
        del self.blocks[address]

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        """The bytes at an address; all of them inside one block."""
        for start, block in self.blocks.items():
            if start <= address < start + len(block):
                assert address + size <= start + len(block), f"{size} bytes at {address:#x} run over the end of a block"
                return block[address - start : address - start + size]
        raise AssertionError(f"address {address:#x} belongs to no block")

    def pinned(self, size: int) -> NDArray[np.uint8]:
        memory = np.zeros(size, np.uint8)
        self.pinned_blocks.append(memory)
        return memory

    def free_pinned(self, memory: NDArray[np.uint8]) -> None:
        before = len(self.pinned_blocks)
        self.pinned_blocks = [block for block in self.pinned_blocks if block is not memory]
        assert len(self.pinned_blocks) == before - 1

    def stream(self) -> int:
        self.streams[len(self.streams) + 1] = []
        return len(self.streams)

    def free_stream(self, stream: int) -> None:
        assert not self.streams[stream]
        del self.streams[stream]

    def synchronize(self, stream: int) -> None:
        assert self._recording is None, "a capture cannot wait"
        self.synchronizations += 1
        work, self.streams[stream] = self.streams[stream], []
        for step in work:
            step()

    def put(self, step: Callable[[], None], stream: int) -> None:
        """Add work to the stream, or to the graph that is being recorded."""
        (self.streams[stream] if self._recording is None else self._recording).append(step)

    def zero(self, address: int, size: int, stream: int) -> None:
        self.put(lambda: self.at(address, size).fill(0), stream)

    def upload(self, address: int, source: NDArray[np.uint8], stream: int) -> None:
        assert any(np.shares_memory(source, block) for block in self.pinned_blocks), (
            "upload from memory that is not pinned"
        )
        self.put(lambda: np.copyto(self.at(address, source.nbytes), source), stream)

    def download(self, target: NDArray[np.uint8], address: int, stream: int) -> None:
        assert any(np.shares_memory(target, block) for block in self.pinned_blocks), (
            "download to memory that is not pinned"
        )
        self.put(lambda: np.copyto(target, self.at(address, target.nbytes)), stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        self.put(lambda: np.copyto(self.at(target, size), self.at(source, size)), stream)

    def copy_rows(self, target: int, source: int, pitch: int, width: int, rows: int, stream: int) -> None:
        assert width <= pitch

        def step() -> None:
            for row in range(rows):
                np.copyto(self.at(target + row * pitch, width), self.at(source + row * pitch, width))

        self.put(step, stream)

    def capture(self, work: Callable[[], None], stream: int) -> int:
        self.captures += 1
        self._recording, self._recorded_checks = [], []
        work()
        number = len(self.graphs) + 1
        self.graphs[number], self._recording = self._recording, None
        self._checks[number] = self._recorded_checks
        return number

    def launch(self, graph: int, stream: int) -> None:
        self.launches += 1
        assert self.graphs[graph], "launched after it was freed"
        for check in self._checks[graph]:
            check()
        self.streams[stream] += self.graphs[graph]

    def free_graph(self, graph: int) -> None:
        assert self.graphs[graph], "freed twice"
        assert not any(self.streams.values()), "freed while the stream may still run it"
        self.graphs[graph] = []

    @property
    def leaked(self) -> bool:
        return bool(self.blocks or self.pinned_blocks or self.streams or any(self.graphs.values()))
