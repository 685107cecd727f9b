"""What computes: each module is one Backend, imported only when it is asked for."""

from __future__ import annotations

from pathlib import Path

from exaone_ros.engine.backend import Backend
from exaone_ros.errors import EngineError, require

BACKENDS = ("onnxruntime", "tensorrt", "torch")


def open_backend(
    name: str,
    checkpoint_dir: str | Path,
    *,
    slots: int = 8,
    context: int = 1024,
    threads: int | None = None,
    device: str = "cpu",
    mtp: bool = False,
    visual_tokens: int = 0,
) -> Backend:
    """Load a checkpoint into a backend.

    Args:
        name: "onnxruntime" (the default of the package), "tensorrt" (engines made by `exaone compile`), or "torch" (the
            slow reference).
        checkpoint_dir: Hugging Face directory of an EXAONE 4.5 checkpoint.
        slots: KV cache slots.
        context: tokens that fit into one slot.
        threads: of the computation; None or 0 leaves it to the runtime (one per core).
        device: "cpu", or "cuda" / "cuda:N". What is asked for is used or refused, never replaced.
        mtp: load the checkpoint's MTP layer too: the backend is then a `DraftingBackend`.
        visual_tokens: most that an image may take; larger images are shrunk to it. 0 = what the checkpoint, or the
            compiled engines, allow.

    Raises:
        EngineError: an unknown backend, a device that is not there, sizes that make no sense, or `mtp` of a backend
            that does not have it.
        CheckpointError: the checkpoint cannot be used, or has no MTP layer where one is asked for.
        MissingExtra: a package that the backend needs is not installed.
    """
    if name == "onnxruntime":
        require("onnx", "cpu")
        from exaone_ros.engine.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(
            checkpoint_dir, slots=slots, context=context, threads=threads or 0, device=device, mtp=mtp,
            visual_tokens=visual_tokens,
        )  # fmt: skip
    if name == "tensorrt":
        if mtp:
            raise EngineError("backend 'tensorrt' has no MTP layer; use 'onnxruntime' for it, or do without its drafts")
        require("onnx", "tensorrt")
        from exaone_ros.engine.backends.tensorrt import TensorRtBackend

        return TensorRtBackend(checkpoint_dir, slots=slots, context=context, device=device, visual_tokens=visual_tokens)
    if name == "torch":
        from exaone_ros.engine.backends.torch_reference import TorchBackend

        return TorchBackend(
            checkpoint_dir, slots=slots, context=context, threads=threads or 0, device=device, mtp=mtp,
            visual_tokens=visual_tokens,
        )  # fmt: skip
    raise EngineError(f"backend is {name!r}; expected one of {BACKENDS}")
