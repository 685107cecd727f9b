"""A module `tensorrt` that builds by remembering and runs by ONNX Runtime, as strict as the documentation.

Refused: shapes outside the profile, unknown tensors, missing addresses, a profile not chosen, caches that are not in
place where the engine writes them in place, and caches that are in place where it does not; a recording of a context
that did not run plainly after its last change, and the launch of one whose context was changed since.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from engine.tensorrt.fake_cuda import FakeCuda
from onnx import helper

from exaone_ros.engine.tensorrt.versions import Library, target_for

SCRATCH_BYTES = 1000  # that an engine computes in, for each of its tensors


class Severity(IntEnum):
    ERROR, WARNING, INFO = 1, 2, 3


class TensorIOMode(IntEnum):
    NONE, INPUT, OUTPUT = 0, 1, 2


class Logger:
    """Stands for ILogger."""

    WARNING = Severity.WARNING

    def __init__(self) -> None: ...

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class ProgressMonitor:
    """Stands for IProgressMonitor."""

    def __init__(self) -> None: ...


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, least: Any, typical: Any, most: Any) -> None:
        assert all(a <= b <= c for a, b, c in zip(least, typical, most, strict=True)), f"{name}: min <= opt <= max"
        self.shapes[name] = [list(least), list(typical), list(most)]


class Network:
    def __init__(self, flags: int) -> None:
        assert flags == 2, "strongly typed networks only"
        self.model: onnx.ModelProto | None = None

    @property
    def num_inputs(self) -> int:
        assert self.model is not None
        return len(self.model.graph.input)

    def get_input(self, index: int) -> Any:
        assert self.model is not None
        return SimpleNamespace(name=self.model.graph.input[index].name)


class Parser:
    def __init__(self, network: Network, logger: Any) -> None:
        self._network, self._errors = network, []

    def parse_from_file(self, path: str) -> bool:
        try:
            self._network.model = onnx.load(path)
        except Exception as error:
            self._errors.append(str(error))
            return False
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: self._errors[index])


class TimingCache:
    def serialize(self) -> bytes:
        return b"timings"


class Config:
    def __init__(self) -> None:
        self.profiles: list[Profile] = []
        self.limits: dict[str, int] = {}
        self.progress_monitor: Any = None
        self._timing: TimingCache | None = None

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.limits[pool] = size

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, blob: bytes) -> TimingCache:
        return TimingCache()

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        self._timing = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self._timing


class Context:
    """One whose memory the user gives. What it was recorded with must stay as it is while the graph is used."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._profile = engine, -1
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._state = self._ran = 0
        """Counts changes; the number at the last plain run."""

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0 and size >= self._engine.device_memory_size_v2
        self._memory, self._state = (memory, size), self._state + 1

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile, self._state = profile, self._state + 1
        self._shapes = {}
        return 0 <= profile < len(self._engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._profile < 0 or name not in self._engine.profiles[self._profile]:
            return self._engine.say(f"{name}: no profile, or no such input")
        least, _, most = self._engine.profiles[self._profile][name]
        if len(shape) != len(least) or not all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True)):
            return self._engine.say(f"{name}: {shape} is not within {least} and {most}")
        self._state += self._shapes.get(name) != tuple(shape)
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._state += self._addresses.get(name) != address
        self._addresses[name] = address
        return name in self._engine.names and address != 0

    def execute_async_v3(self, stream: int) -> bool:
        engine = self._engine
        if missing := set(engine.names) - set(self._addresses) | set(engine.inputs) - set(self._shapes):
            return engine.say(f"no address or no shape for {sorted(missing)}")
        if self._memory is None:
            return engine.say("no device memory to compute in")
        for name in engine.outputs:
            if name.startswith("present_"):
                in_place = self._addresses[name] == self._addresses["past_" + name[len("present_") :]]
                if in_place != engine.aliased:
                    return engine.say(f"{name} must {'' if engine.aliased else 'not '}be in place")
        if engine.cuda.recording:
            if self._ran != self._state:
                return engine.say("recorded without a plain run after a change of shapes, addresses or memory")
            engine.cuda.check_at_launch(self._unchanged_since(self._state))
        self._ran = self._state
        shapes, addresses, memory = dict(self._shapes), dict(self._addresses), self._memory
        engine.cuda.put(lambda: engine.compute(shapes, addresses, memory), stream)
        return True

    def _unchanged_since(self, state: int) -> Callable[[], None]:
        def check() -> None:
            assert self._state == state, "the context of a recorded graph was changed"

        return check


class Engine:
    def __init__(self, plan: bytes, logger: Any, cuda: FakeCuda, aliased: bool) -> None:
        size = struct.unpack("<Q", plan[:8])[0]
        self.profiles = json.loads(plan[8 : 8 + size])
        model = onnx.load_from_string(plan[8 + size :])
        self.cuda, self.aliased, self._logger = cuda, aliased, logger
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self.names = [*self.inputs, *self.outputs]
        self.contexts = 0
        self.num_io_tensors, self.num_optimization_profiles = len(self.names), len(self.profiles)
        self.device_memory_size_v2 = SCRATCH_BYTES * len(self.names)
        self._types = {
            value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            for value in (*model.graph.input, *model.graph.output)
        }
        self._writes = [node.input for node in model.graph.node if node.op_type == "TensorScatter"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def say(self, message: str) -> bool:
        self._logger.log(Severity.ERROR, message)
        return False

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        return self.profiles[profile][name]

    def create_execution_context(self, strategy: str) -> Context:
        assert strategy == "user managed", "contexts share the memory that the backend gives them"
        self.contexts += 1
        return Context(self)

    def compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int], memory: tuple[int, int]) -> None:
        self.cuda.at(*memory).fill(0xFF)  # what an engine computes in is nobody else's, and holds nothing afterwards
        feeds = {}
        for name in self.inputs:
            dtype = self._types[name]
            size = int(np.prod(shapes[name])) * dtype.itemsize
            feeds[name] = self.cuda.at(addresses[name], size).view(dtype).reshape(shapes[name]).copy()
        for past, _, index in self._writes:  # the real one writes beyond the slot, whatever lies there
            ends = feeds[index] + shapes["input_ids"][1]
            assert (ends <= shapes[past][2]).all(), f"'{past}' has {shapes[past][2]} positions; writes end at {ends}"
        for name, values in zip(self.outputs, self._session.run(self.outputs, feeds), strict=True):
            np.copyto(
                self.cuda.at(addresses[name], values.nbytes), np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            )


def fake_library(cuda: FakeCuda, version: str = "10.16.1.11", name: str = "tensorrt") -> Library:
    """A library whose builds and engines are counted in `module.builds` and `module.loads`."""
    target = target_for(name, version)
    module = SimpleNamespace(__version__=version, builds=0, loads=0, last_config=None)

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def create_network(self, flags: int) -> Network:
            return Network(flags)

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes:
            assert network.model is not None
            module.builds += 1
            module.last_config = config
            if config.progress_monitor is not None:
                config.progress_monitor.phase_start("Building", None, 2)
                assert config.progress_monitor.step_complete("Building", 0)
                config.progress_monitor.phase_finish("Building")
            head = json.dumps([profile.shapes for profile in config.profiles]).encode()
            return struct.pack("<Q", len(head)) + head + network.model.SerializeToString()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            module.loads += 1
            return Engine(plan, self._logger, cuda, target.aliased_kv) if len(plan) > 8 else None

    module.ILogger, module.IProgressMonitor, module.TensorIOMode = Logger, ProgressMonitor, TensorIOMode
    module.Builder, module.Runtime, module.OnnxParser = Builder, Runtime, Parser
    module.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
    module.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    return Library(module, version, target)


def corrupt(path: Path) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
