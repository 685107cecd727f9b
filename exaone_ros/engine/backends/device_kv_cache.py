"""KV caches in the memory of a device, for ONNX Runtime. See `kv_cache` for what a cache is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from exaone_ros.engine.backends.kv_cache import cache_lengths, cache_names
from exaone_ros.engine.backends.ring import Ring
from exaone_ros.model.config import TextConfig


class DeviceKvCache:
    """KV caches at full capacity: what does not move needs no copies through main memory."""

    def __init__(
        self,
        runtime: Any,
        config: TextConfig,
        slots: int,
        context: int,
        provider: tuple[str, dict[str, Any]],
        ring: Ring | None = None,
    ) -> None:
        """Allocate the memory on the device of an ONNX Runtime provider (name and options)."""
        self.names = cache_names(config)
        self.capacity, self.fixed = context, True
        self._device = device_of(provider)
        self._rows = {
            name: (1, config.kv_heads, length, config.head_dim)
            for name, length in cache_lengths(config, context, ring).items()
        }
        self._memory = {}
        for name, row in self._rows.items():
            shape = [slots, *row[1:]]
            self._memory[name] = runtime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, *self._device)
            self._memory[name].update_inplace(np.zeros(shape, np.float32))  # a masked NaN would still do harm
        self._copier = _copier(runtime, provider)

    def ensure(self, positions: int, held: NDArray[np.int64], *, tight: bool = False) -> bool:
        return False

    def place(self, name: str, first_slot: int) -> int:
        return int(self._memory[name].data_ptr()) + first_slot * int(np.prod(self._rows[name])) * 4

    def shape(self, name: str, slots: int) -> tuple[int, int, int, int]:
        return slots, *self._rows[name][1:]

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """Copy slots as a whole: ONNX Runtime has no copy inside a device but a graph."""
        for name in self.names if length else ():
            for target in targets:
                binding = self._copier.io_binding()
                binding.bind_input("x", *self._device, np.float32, self._rows[name], self.place(name, source))
                binding.bind_output("y", *self._device, np.float32, self._rows[name], self.place(name, target))
                self._copier.run_with_iobinding(binding)


def device_of(provider: tuple[str, dict[str, Any]]) -> tuple[str, int]:
    """Kind and number of the device that an ONNX Runtime provider computes on."""
    name, options = provider
    return ("cuda", int(options.get("device_id", 0))) if name == "CUDAExecutionProvider" else ("cpu", 0)


def _copier(runtime: Any, provider: tuple[str, dict[str, Any]]) -> Any:
    """A session that copies one tensor; the device is that of the provider."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "copy", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return runtime.InferenceSession(model.SerializeToString(), providers=[provider])
