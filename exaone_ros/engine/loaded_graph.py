"""A graph beside the backends' own, from a file or just built: no idle spinning, errors of this package."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import EngineError, require
from exaone_ros.model.onnx_graph import Graph, Weights


class LoadedGraph:
    """A graph on the CPU. One thread at a time calls it.

    Args:
        source: path of an ONNX file, or the model itself.
        name: for messages.
        threads: of the computation; 0 = one per core.

    Raises:
        EngineError: it is missing or damaged.
        MissingExtra: onnxruntime is not installed.
    """

    def __init__(self, source: str | bytes, name: str, threads: int = 1) -> None:
        runtime: Any = require("onnxruntime", "cpu")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"graph {name} cannot be loaded: {error}") from error
        self._name = name
        self.shapes: dict[str, list[Any]] = {value.name: list(value.shape) for value in self._session.get_inputs()}
        """Inputs by name."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """All outputs by name.

        Raises:
            EngineError: inputs that do not fit, or the runtime failed.
        """
        names = [value.name for value in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        except Exception as error:  # ONNX Runtime's errors share no base class but this
            raise EngineError(f"graph {self._name} failed: {error}") from error


def file_graph(path: Path, threads: int = 1) -> LoadedGraph:
    """Load an ONNX file; errors as `LoadedGraph`."""
    return LoadedGraph(str(path), str(path), threads)


def memory_graph(graph: Graph, threads: int = 1) -> LoadedGraph:
    """Load a graph that was just built; errors as `LoadedGraph`."""
    name = graph.model.graph.name
    if graph.fits_inline:
        return LoadedGraph(graph.to_bytes(), name, threads)
    with tempfile.TemporaryDirectory(prefix="exaone_ros_") as folder:
        path = Path(folder) / "model.onnx"
        graph.save(path, Weights.FILE)
        return LoadedGraph(str(path), name, threads)
