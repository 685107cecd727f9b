"""What differs between versions of TensorRT, as one table, and finding the one that is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exaone_ros.errors import EngineError, MissingExtra
from exaone_ros.model.decoder_graph import KvWrite
from exaone_ros.model.precision import Precision, WeightFormat

_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Target:
    """What one range of versions takes.

    Attributes:
        package: "tensorrt" or "tensorrt_rtx": the name that is imported.
        since, before: versions, the second exclusive.
        opset: of the graphs; a precision that needs a later one gets it.
        kv_write: how the decoder graph writes its caches.
        aliased_kv: the engine ties each `present_*` output to the memory of its `past_*` input. Otherwise the new
            entries are copied into the cache after each run.
        weights: formats of the decoder's weights that the library has types for.
        note: how much of this was tried.
    """

    package: str
    since: tuple[int, int]
    before: tuple[int, int]
    opset: int
    kv_write: KvWrite
    aliased_kv: bool
    weights: tuple[WeightFormat, ...]
    note: str

    def accepts(self, precision: Precision) -> bool:
        """True where engines of this precision can be built.

        Float32 is left out: the fused attention of TensorRT-RTX 1.7 has no kernel for it.
        """
        return precision.compute.name in _HALF and precision.weights in self.weights

    def opset_for(self, precision: Precision) -> int:
        return max(self.opset, precision.min_opset)


_PLAIN, _INT8, _INT4 = WeightFormat.PLAIN, WeightFormat.INT8, WeightFormat.INT4
_FP8, _NVFP4 = WeightFormat.FP8, WeightFormat.NVFP4
_SCATTER, _TENSOR_SCATTER = KvWrite.SCATTER_ELEMENTS, KvWrite.TENSOR_SCATTER

TARGETS: tuple[Target, ...] = (
    Target(
        "tensorrt", (10, 3), (10, 13), 20, _SCATTER, False, (_PLAIN, _INT8, _INT4, _FP8),
        "JetPack 6: no attention, norm, rotation or KV update of its own. Not run.",
    ),
    Target(
        "tensorrt", (10, 13), (10, 15), 20, _SCATTER, False, (_PLAIN, _INT8, _INT4, _FP8, _NVFP4),
        "JetPack 7.0 and 7.1: attention came with 10.14, rotation and KV update with 10.15. Not run.",
    ),
    Target(
        "tensorrt", (10, 15), (12, 0), 24, _TENSOR_SCATTER, True, (_PLAIN, _INT8, _INT4, _FP8, _NVFP4),
        "Names checked in the bindings of 10.16 and 11.4. Not run.",
    ),
    Target(
        "tensorrt_rtx", (1, 7), (2, 0), 24, _TENSOR_SCATTER, True, (_PLAIN, _INT8, _INT4, _FP8, _NVFP4),
        "1.7.1 parses and builds every one of these without a GPU. Not run.",
    ),
)  # fmt: skip

LIBRARIES = ("tensorrt", "tensorrt_rtx")
"""In the order in which they are looked for."""
CHOICE = "EXAONE_TENSORRT"
"""Environment variable that names one of them, where both are installed."""
MODULES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


@dataclass(frozen=True)
class Library:
    """An imported TensorRT.

    Attributes:
        module: the bindings.
        version: as the module says it.
        target: its row in the table.
    """

    module: Any
    version: str
    target: Target

    @property
    def name(self) -> str:
        return self.target.package


def target_for(library: str, version: str) -> Target:
    """The row of the table for a version such as "10.13.3.9".

    Raises:
        EngineError: no row; names the versions that there are rows for.
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    number = (int(match[1]), int(match[2])) if match else (0, 0)
    rows = [target for target in TARGETS if target.package == library]
    for target in rows:
        if target.since <= number < target.before:
            return target
    known = ", ".join(f"{t.since[0]}.{t.since[1]} to below {t.before[0]}.{t.before[1]}" for t in rows)
    raise EngineError(f"{library} is version {version}; expected {known or 'tensorrt or tensorrt_rtx'}")


def wanted_libraries() -> tuple[str, ...]:
    """The library that $EXAONE_TENSORRT names, or all.

    Raises:
        EngineError: it names none.
    """
    choice = os.environ.get(CHOICE)
    if not choice:
        return LIBRARIES
    if choice not in LIBRARIES:
        raise EngineError(f"{CHOICE} is {choice!r}; expected {' or '.join(LIBRARIES)}, or leave it unset")
    return (choice,)


def installed_libraries() -> tuple[str, ...]:
    """The libraries that are installed; whether they can be loaded, `load_library` finds out."""
    return tuple(
        name for name in LIBRARIES if any(importlib.util.find_spec(module) is not None for module in MODULES[name])
    )


def load_library(names: Sequence[str] = ()) -> Library:
    """Import the first of the libraries that is installed.

    Args:
        names: which to look for, in order; none = `wanted_libraries`. Engines run on the library that built them.

    Raises:
        MissingExtra: none is installed.
        EngineError: the installed one is of a version that nothing is known about, or cannot be loaded.
    """
    names = names or wanted_libraries()
    for name in names:
        for module_name in MODULES[name]:
            try:
                module = importlib.import_module(module_name)
            except ModuleNotFoundError as error:
                if error.name is not None and error.name.split(".")[0] != module_name:
                    raise EngineError(f"{module_name} is installed, but it needs '{error.name}': {error}") from error
                continue
            except ImportError as error:
                raise EngineError(f"{module_name} is installed, but its libraries cannot be loaded: {error}") from error
            version = getattr(module, "__version__", None)
            if not isinstance(version, str):  # a folder of that name on the path imports as an empty package
                raise EngineError(f"'{module_name}' is not NVIDIA's: {module!r} has no version; take it off the path")
            return Library(module, version, target_for(name, version))
    extras = " or ".join(f"pip install 'exaone_ros[{EXTRAS[name]}]'" for name in names)
    raise MissingExtra(f"TensorRT is not installed: {extras}; on a Jetson it comes with JetPack")
