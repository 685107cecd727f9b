"""Weights that were published quantised, as they are laid out in their files: AWQ, FP8, compressed-tensors.

The layouts are those of AutoAWQ ("gemm"), of transformers' fine-grained FP8, and of compressed-tensors. Each stands for
one weight with several tensors; here they become one weight again, which can be read as float32 like any other, or
handed to the graphs as it is. What `quantization_config` says and the tensors do not show is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError
from exaone_ros.model.precision import WeightFormat
from exaone_ros.model.quantized import Quantized
from exaone_ros.model.safetensors_file import StoredTensor

_INT4 = np.dtype(ml_dtypes.int4)
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Column of the i-th nibble of a word, lowest first."""
NO_ALIASES: Mapping[str, str] = MappingProxyType({})
METHODS = ("awq", "fp8", "compressed-tensors")


class Layout(Protocol):
    """How one weight [out, in] is stored as several tensors.

    Attributes:
        name: in words, for reports.
        format: of the stored values.
        parts: for each tensor what follows the layer's name in its own name, and the types that it may have.
        optional: those of them that a layer may lack.
        aliases: other names of parts, and the part that each stands for.
    """

    @property
    def name(self) -> str: ...
    @property
    def format(self) -> WeightFormat: ...
    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def optional(self) -> frozenset[str]: ...
    @property
    def aliases(self) -> Mapping[str, str]: ...

    def shapes(self, out: int, into: int) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        """The shapes that each part may have for a weight [out, in]."""
        ...

    def scales(self, out: int, into: int) -> tuple[tuple[int, ...], bool]:
        """Shape of the scales that `unpack` gives, and whether there are offsets beside them."""
        ...

    def unpack(self, parts: Mapping[str, NDArray[Any]], out: int, into: int) -> Quantized:
        """The weight as arrays, scales float32."""
        ...


@dataclass(frozen=True)
class AwqGemm:
    """AutoAWQ, version "gemm": 4 bits with zero points, eight columns in a word.

    weight[o, i] = (qweight[i, o] - qzeros[i / group, o]) * scales[i / group, o]
    """

    group: int
    name = "AWQ"
    format = WeightFormat.INT4
    parts = {".qweight": ("I32",), ".qzeros": ("I32",), ".scales": ("F16", "BF16", "F32")}  # noqa: RUF012
    optional: frozenset[str] = frozenset()
    aliases = NO_ALIASES

    def shapes(self, out: int, into: int) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        groups = into // self.group
        return {
            ".qweight": ((into, out // 8),), ".qzeros": ((groups, out // 8),), ".scales": ((groups, out),)
        }  # fmt: skip

    def scales(self, out: int, into: int) -> tuple[tuple[int, ...], bool]:
        return (into // self.group, out), True

    def unpack(self, parts: Mapping[str, NDArray[Any]], out: int, into: int) -> Quantized:
        values, zeros = (unpack_nibbles(parts[part], _AWQ_ORDER) for part in (".qweight", ".qzeros"))
        scale = parts[".scales"].astype(np.float32)
        # Signed as the graphs want it; what that moves goes into the offset.
        return Quantized(
            (values.astype(np.int8) - 8).astype(_INT4), scale, offset=(8 - zeros.astype(np.float32)) * scale
        )


@dataclass(frozen=True)
class Fp8:
    """E4M3 with scales for blocks of outputs and inputs, for each output, or for the whole weight.

    Quantisers call the scales `weight_scale` or `weight_scale_inv`; both are factors of the stored values.
    """

    name: str
    block: tuple[int, int] | None
    format = WeightFormat.FP8

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        return {".weight": ("F8_E4M3",), ".weight_scale": ("F32", "BF16", "F16")}

    optional: frozenset[str] = frozenset()
    aliases = MappingProxyType({".weight_scale_inv": ".weight_scale"})

    def shapes(self, out: int, into: int) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        if self.block is None:
            scales: tuple[tuple[int, ...], ...] = ((), (1,), (1, 1), (out,), (out, 1), (1, out))
        else:
            scales = ((-(-out // self.block[0]), -(-into // self.block[1])),)
        return {".weight": ((out, into),), ".weight_scale": scales}

    def scales(self, out: int, into: int) -> tuple[tuple[int, ...], bool]:
        rows = 1 if self.block is None else -(-into // self.block[1])
        return ((out,) if rows == 1 else (rows, out)), False

    def unpack(self, parts: Mapping[str, NDArray[Any]], out: int, into: int) -> Quantized:
        values = np.ascontiguousarray(parts[".weight"].T)
        scale = parts[".weight_scale"].astype(np.float32)
        if self.block is None:
            return Quantized(values, np.ascontiguousarray(np.broadcast_to(scale.reshape(-1), out)))
        scale = np.ascontiguousarray(np.repeat(scale, self.block[0], axis=0)[:out].T)
        return Quantized(values, scale[0]) if len(scale) == 1 else Quantized(values, scale, block=self.block[1])


@dataclass(frozen=True)
class PackedInt4:
    """compressed-tensors, "pack-quantized": 4 bits, eight inputs in a word, with or without zero points.

    weight[o, i] = (packed[o, i] - 8 - (zero_point[o, i / group] - 8)) * scale[o, i / group]
    """

    group: int
    symmetric: bool
    name = "compressed-tensors INT4"
    format = WeightFormat.INT4

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        found = {".weight_packed": ("I32",), ".weight_scale": ("F16", "BF16", "F32"), ".weight_shape": ("I64", "I32")}
        return found if self.symmetric else {**found, ".weight_zero_point": ("I32",)}

    @property
    def optional(self) -> frozenset[str]:
        return frozenset({".weight_shape"})

    aliases = NO_ALIASES

    def shapes(self, out: int, into: int) -> Mapping[str, tuple[tuple[int, ...], ...]]:
        groups = into // self.group
        return {
            ".weight_packed": ((out, into // 8),), ".weight_scale": ((out, groups),), ".weight_shape": ((2,),),
            ".weight_zero_point": ((out // 8, groups),),
        }  # fmt: skip

    def scales(self, out: int, into: int) -> tuple[tuple[int, ...], bool]:
        return (into // self.group, out), not self.symmetric

    def unpack(self, parts: Mapping[str, NDArray[Any]], out: int, into: int) -> Quantized:
        values = unpack_nibbles(parts[".weight_packed"]).astype(np.int8) - 8
        scale = np.ascontiguousarray(parts[".weight_scale"].astype(np.float32).T)
        offset = None
        if not self.symmetric:
            zeros = unpack_nibbles(np.ascontiguousarray(parts[".weight_zero_point"].T)).astype(np.float32) - 8
            offset = -zeros * scale
        return Quantized(np.ascontiguousarray(values.T).astype(_INT4), scale, offset=offset)


def unpack_nibbles(words: NDArray[np.int32], order: tuple[int, ...] = tuple(range(8))) -> NDArray[np.uint8]:
    """Words [n, m] as uint8 [n, 8 * m]; nibble i, lowest first, goes to column `order[i]` of its eight."""
    nibbles = np.empty((*words.shape, 8), np.uint8)
    unsigned = words.view(np.uint32)
    for i, column in enumerate(order):
        nibbles[..., column] = (unsigned >> np.uint32(4 * i)) & np.uint32(15)
    return nibbles.reshape(words.shape[0], -1)


@dataclass(frozen=True)
class PublishedWeight(StoredTensor):
    """A weight that is stored as several tensors. Its `dtype` is the layout's name, `length` the bytes of all parts.

    Attributes:
        layout: of the parts.
        parts: the tensors by what follows the layer's name.
    """

    layout: Layout = field(kw_only=True)
    parts: Mapping[str, StoredTensor] = field(kw_only=True, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(sorted({part.file for part in self.parts.values()}))

    def read(self) -> NDArray[np.float32]:
        """The weight that the parts amount to, float32 [out, in]."""
        return self.quantized().dequantized()

    def read_in_pieces(self, piece_bytes: int) -> Iterator[NDArray[np.float32]]:
        yield self.read()

    def quantized(self) -> Quantized:
        """The weight as arrays, scales float32.

        Raises:
            CheckpointError: a part cannot be read, or a scale is no positive number.
        """
        out, into = self.shape
        found = self.layout.unpack({name: part.raw() for name, part in self.parts.items()}, out, into)
        if not (np.isfinite(found.scale).all() and (found.scale >= 0).all()):
            raise CheckpointError(f"{self.file}: a scale of '{self.name}' is negative or no number: it is damaged")
        return found


def assemble(layout: Layout, layer: str, shape: tuple[int, ...], parts: Mapping[str, StoredTensor]) -> PublishedWeight:
    """One weight from its parts.

    Args:
        layout: of the parts.
        layer: canonical name, e.g. "text.layers.0.mlp.up_proj".
        shape: [out, in] that the configuration asks for.
        parts: the tensors by what follows the layer's name.

    Raises:
        CheckpointError: a part is missing, or has another shape or type.
    """
    first = next(iter(parts.values()))
    missing = [part for part in layout.parts if part not in parts and part not in layout.optional]
    if missing:
        raise CheckpointError(
            f"{first.file}: '{layer}' is quantised ({layout.name}) but lacks its tensor '{layer}{missing[0]}'; the "
            "weights are incomplete: fetch them again"
        )
    allowed = layout.shapes(shape[0], shape[1]) if len(shape) == 2 else {}
    for part, tensor in parts.items():
        if tensor.shape not in allowed.get(part, ()):
            expected = " or ".join(str(list(s)) for s in allowed.get(part, ())) or "no quantised tensor"
            raise CheckpointError(
                f"{tensor.file}: tensor '{tensor.name}' has shape {list(tensor.shape)}; expected {expected} for a "
                f"{layout.name} weight of {list(shape)}"
            )
        if tensor.dtype not in layout.parts[part]:
            raise CheckpointError(
                f"{tensor.file}: tensor '{tensor.name}' is of type {tensor.dtype}; expected one of "
                f"{layout.parts[part]} in {layout.name}"
            )
    main = parts[next(iter(layout.parts))]
    length = sum(part.length for part in parts.values())
    name = main.name.removesuffix(next(iter(layout.parts))) + ".weight"
    return PublishedWeight(main.file, name, layout.name, shape, main.offset, length, layout=layout, parts=parts)


def read_layout(config: Mapping[str, Any], where: str) -> Layout | None:
    """The layout that the content of config.json names; None where it names none.

    Args:
        config: content of config.json.
        where: named in errors.

    Raises:
        CheckpointError: a layout, or a variant of one, that is not read.
    """
    raw = config.get("quantization_config")
    if raw is None and isinstance(config.get("text_config"), dict):
        raw = config["text_config"].get("quantization_config")
    if raw is None:
        return None
    where = f"{where}: quantization_config"
    if not isinstance(raw, dict):
        raise CheckpointError(f"{where} is {raw!r:.80}; expected an object")
    method = raw.get("quant_method")
    if method == "awq":
        return _awq(raw, where)
    if method == "fp8":
        return _fp8(raw, where)
    if method == "compressed-tensors":
        return _compressed(raw, where)
    raise CheckpointError(
        f"{where}: quant_method is {method!r}; expected one of {METHODS}: take the unquantised release, which "
        "exaone compile quantises itself"
    )


def _must(raw: Mapping[str, Any], where: str, key: str, allowed: tuple[Any, ...], default: Any) -> Any:
    value = raw.get(key, default)
    if isinstance(value, str):
        value = value.lower()
    if value not in allowed:
        expected = " or ".join(repr(a) for a in allowed)
        raise CheckpointError(
            f"{where}: {key} is {value!r}; expected {expected}: this variant is not read, take the unquantised release"
        )
    return value


def _group(raw: Mapping[str, Any], where: str) -> int:
    group = raw.get("group_size")
    if isinstance(group, bool) or not isinstance(group, int) or group < 16 or group % 16:
        raise CheckpointError(f"{where}: group_size is {group!r}; expected a multiple of 16, as 128")
    return group


def _awq(raw: Mapping[str, Any], where: str) -> Layout:
    _must(raw, where, "bits" if "bits" in raw else "w_bit", (4,), None)
    _must(raw, where, "version", ("gemm",), "gemm")
    _must(raw, where, "zero_point", (True,), True)
    key = "group_size" if "group_size" in raw else "q_group_size"
    return AwqGemm(_group({"group_size": raw.get(key)}, where))


def _fp8(raw: Mapping[str, Any], where: str) -> Layout:
    _must(raw, where, "fmt", ("e4m3", "float8_e4m3fn"), "e4m3")
    _must(raw, where, "scale_fmt", ("float", None), None)
    # The scales of activations are of no use here: only weights are kept in eight bits.
    _must(raw, where, "activation_scheme", ("dynamic", "static"), "dynamic")
    size = raw.get("weight_block_size")
    if size is None:
        return Fp8("FP8", None)
    return Fp8(f"FP8 in blocks of {_block(size, where)}", _block(size, where))


def _block(size: Any, where: str) -> tuple[int, int]:
    sound = isinstance(size, list) and len(size) == 2 and all(type(n) is int and n >= 16 for n in size)
    if not sound:
        raise CheckpointError(f"{where}: weight_block_size is {size!r}; expected two sizes, as [128, 128]")
    return size[0], size[1]


def _compressed(raw: Mapping[str, Any], where: str) -> Layout:
    _must(raw, where, "quantization_status", ("compressed", "frozen"), "compressed")
    groups = raw.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        count = len(groups) if isinstance(groups, dict) else "no"
        raise CheckpointError(f"{where}: {count} config_groups; expected one: mixed formats are not read")
    (group,) = groups.values()
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict):
        raise CheckpointError(f"{where}: config_groups has no weights; expected an object")
    kind = _must(raw, where, "format", ("float-quantized", "pack-quantized"), None)
    where = f"{where}: weights"
    _must(weights, where, "actorder", (None, "static", "weight"), None)
    if kind == "pack-quantized":
        _must(weights, where, "type", ("int",), "int")
        _must(weights, where, "num_bits", (4,), None)
        _must(weights, where, "strategy", ("group",), None)
        return PackedInt4(_group(weights, where), bool(_must(weights, where, "symmetric", (True, False), True)))
    _must(weights, where, "type", ("float",), None)
    _must(weights, where, "num_bits", (8,), None)
    _must(weights, where, "symmetric", (True,), True)
    strategy = _must(weights, where, "strategy", ("channel", "tensor", "block"), None)
    block = _block(weights.get("block_structure"), where) if strategy == "block" else None
    return Fp8(f"compressed-tensors FP8 by {strategy}", block)
