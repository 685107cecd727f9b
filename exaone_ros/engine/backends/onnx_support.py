"""What an installed ONNX Runtime can run, found out by asking it: the wheels for Python 3.10 ended before opset 24."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, helper

from exaone_ros.errors import EngineError
from exaone_ros.model.onnx_graph import IR_VERSIONS, MAX_OPSET, MIN_OPSET

# The operator that makes an opset worth choosing, with its inputs; other opsets bring nothing that the graphs use.
_WORTH: dict[int, tuple[str, dict[str, tuple[int, list[int]]]]] = {
    24: (
        "TensorScatter",
        {
            "past": (TensorProto.FLOAT, [1, 1, 4, 4]),
            "new": (TensorProto.FLOAT, [1, 1, 1, 4]),
            "at": (TensorProto.INT64, [1]),
        },
    ),
    23: ("Attention", {name: (TensorProto.FLOAT, [1, 1, 4, 4]) for name in "qkv"}),
    20: ("Gelu", {"x": (TensorProto.FLOAT, [4])}),
    18: ("Identity", {"x": (TensorProto.FLOAT, [4])}),
}


def best_opset(runtime: Any) -> int:
    """The latest opset of the graphs that the module `onnxruntime` loads.

    Raises:
        EngineError: not even the earliest; the runtime is too old.
    """
    for opset in sorted(_WORTH, reverse=True):
        if _loads(runtime, opset):
            return opset
    raise EngineError(
        f"onnxruntime {runtime.__version__} does not run ONNX opset {MIN_OPSET}; graphs are built for {MIN_OPSET} to "
        f"{MAX_OPSET}: install a newer onnxruntime"
    )


def _loads(runtime: Any, opset: int) -> bool:
    kind, inputs = _WORTH[opset]
    values = [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(kind, list(inputs), ["out"])], "probe", values, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSIONS[opset])
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # whatever it is that the runtime says no with; its errors share no base class but this
        return False
    return True
