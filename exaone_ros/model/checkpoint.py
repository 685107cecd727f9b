"""A checkpoint directory in the layout of Hugging Face, opened and checked; its weights by one canonical name each.

Safetensors only: nothing in a checkpoint is ever executed. Canonical names are those of `transformers`' modules with
the shortest prefixes: `visual.blocks.0.attn.qkv.weight`, `text.layers.0.self_attn.q_proj.weight`, `lm_head.weight`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError
from exaone_ros.model.config import ModelConfig, TextConfig, VisionConfig
from exaone_ros.model.config_section import read_json
from exaone_ros.model.published import Layout, PublishedWeight, assemble, read_layout
from exaone_ros.model.safetensors_file import ITEM_BYTES, StoredTensor, read_header

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
HEAD = "lm_head.weight"
# Prefixes seen in the wild, longest first; the first that matches wins.
PREFIXES = (
    ("model.language_model.lm_head.", "lm_head."),
    ("language_model.lm_head.", "lm_head."),
    ("lm_head.", "lm_head."),
    ("model.visual.", "visual."),
    ("visual.", "visual."),
    ("model.mtp.", "mtp."),
    ("mtp.", "mtp."),
    ("model.language_model.", "text."),
    ("language_model.model.", "text."),
    ("language_model.", "text."),
    ("model.", "text."),
)
_HASH_BLOCK = 1 << 22


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: every tensor that the model needs is present with the right shape and type.

    Attributes:
        directory: where it lies.
        config: its hyper-parameters.
        tensors: where each weight is stored, by canonical name.
        mtp: where each weight of the MTP layer is stored, by canonical name; empty where there is none, or not all.
        unused: names in the files of tensors that nothing uses (buffers, parts of an MTP layer).
        layout: of the weights that were published quantised; None where all are plain.
    """

    directory: Path
    config: ModelConfig
    tensors: Mapping[str, StoredTensor] = field(repr=False)
    mtp: Mapping[str, StoredTensor] = field(repr=False, default_factory=lambda: MappingProxyType({}))
    unused: tuple[str, ...] = field(repr=False, default=())
    layout: Layout | None = None

    @classmethod
    def open(cls, directory: str | Path) -> Checkpoint:
        """Open a directory with `config.json` and `model.safetensors` (or its sharded form) and check it.

        Reads headers only; weights are mapped when they are read.

        Raises:
            CheckpointError: names the file, the tensor, what was found and what was expected.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise CheckpointError(f"checkpoint directory {directory} does not exist; give a directory with config.json")
        config = ModelConfig.read(directory)
        layout = read_layout(read_json(directory / "config.json"), str(directory / "config.json"))
        found: dict[str, StoredTensor] = {}
        quantised: dict[str, dict[str, StoredTensor]] = {}
        drafting: dict[str, StoredTensor] = {}
        unused: list[str] = []
        of_mtp = mtp_shapes(config.text)
        expected = expected_shapes(config)
        # A head that is stored counts, whatever the configuration says of tying: transformers reads it, too.
        known = expected | {HEAD: (config.text.vocab, config.text.hidden)}
        for tensor in _stored_tensors(directory):
            name = canonical_name(tensor.name)
            part = _part_of(layout, name, tensor) if layout else None
            if part is not None and part[0] + ".weight" in known:
                twin = quantised.setdefault(part[0], {}).setdefault(part[1], tensor)
                if twin is not tensor:
                    raise CheckpointError(
                        f"{tensor.file}: tensors '{twin.name}' and '{tensor.name}' both are '{part[0]}{part[1]}'; "
                        "expected one"
                    )
            elif of_mtp.get(name) == tensor.shape and tensor.dtype in ITEM_BYTES and name not in drafting:
                drafting[name] = tensor
            elif name not in known:
                unused.append(tensor.name)
            elif name in found:
                raise CheckpointError(
                    f"{tensor.file}: tensors '{found[name].name}' and '{tensor.name}' both are '{name}'; expected one"
                )
            else:
                found[name] = tensor
        for layer, parts in quantised.items():
            assert layout is not None
            name = layer + ".weight"
            if name in found:
                raise CheckpointError(f"{found[name].file}: '{name}' is there both plain and quantised; expected one")
            found[name] = assemble(layout, layer, known[name], parts)
        for name, shape in known.items():
            if name in expected or name in found:
                _check(directory, name, shape, found.get(name))
        if drafting.keys() != of_mtp.keys():  # the model runs without: only who asks for the layer is refused
            unused += [tensor.name for tensor in drafting.values()]
            drafting = {}
        mtp = MappingProxyType(drafting)
        kept = layout if quantised else None
        return cls(directory, config, MappingProxyType(found), mtp, tuple(sorted(unused)), kept)

    @property
    def has_mtp(self) -> bool:
        """There is a whole MTP layer."""
        return bool(self.mtp)

    def require_mtp(self) -> None:
        """Refuse a checkpoint without an MTP layer.

        Raises:
            CheckpointError: there is none, or not all of it in the shapes that config.json asks for.
        """
        if not self.has_mtp:
            parts = sum(canonical_name(name).startswith("mtp.") for name in self.unused)
            first, shape = next(iter(mtp_shapes(self.config.text).items()))
            raise CheckpointError(
                f"{self.directory}: {parts} tensors 'mtp.*' are no MTP layer; expected '{first}' {list(shape)} and the "
                "rest of it: train one (python -m exaone_ros.training mtp) or do without its drafts"
            )

    def read(self, name: str) -> NDArray[np.float32]:
        """The weight of the canonical name as float32; a view of the file where it is stored as float32.

        Raises:
            CheckpointError: there is no such tensor, or it cannot be read.
        """
        return self.stored(name).read()

    def stored(self, name: str) -> StoredTensor:
        """Where the weight of the canonical name lies. A tied `lm_head.weight` not stored is the embedding table.

        Raises:
            CheckpointError: there is no such tensor.
        """
        if name == HEAD and self.config.text.tied_embeddings and name not in self.tensors:
            name = "text.embed_tokens.weight"
        if name in self.mtp:
            return self.mtp[name]
        if name not in self.tensors:
            raise CheckpointError(f"{self.directory}: no tensor '{name}' in this checkpoint")
        return self.tensors[name]

    @property
    def dtype(self) -> str:
        """The most frequent type of the stored weights: "F32", "F16", "BF16", or the name of a quantised layout."""
        kinds = [tensor.dtype for tensor in self.tensors.values()]
        return max(sorted(set(kinds)), key=kinds.count)

    @property
    def files(self) -> tuple[Path, ...]:
        """The configuration and every weight file."""
        weights = {file for tensor in self.tensors.values() for file in tensor.files}
        return tuple(sorted({self.directory / "config.json"} | weights))

    def fingerprint(self) -> str:
        """SHA-256 over the content of the configuration and of every weight file, as hex.

        Reads all files: about a second per gigabyte.
        """
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(_HASH_BLOCK):
                    digest.update(block)
        return digest.hexdigest()


def canonical_name(stored: str) -> str:
    """The canonical name of a tensor called `stored` in a file; unchanged where no known prefix matches."""
    for prefix, replacement in PREFIXES:
        if stored.startswith(prefix):
            return replacement + stored[len(prefix) :]
    return stored


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name and shape of every tensor that a model of this configuration has."""
    shapes = {**_vision_shapes(config.vision), **_text_shapes(config.text)}
    if not config.text.tied_embeddings:
        shapes[HEAD] = (config.text.vocab, config.text.hidden)
    return shapes


def _vision_shapes(c: VisionConfig) -> dict[str, tuple[int, ...]]:
    merged = c.hidden * c.merge**2
    shapes: dict[str, tuple[int, ...]] = {
        "visual.patch_embed.proj.weight": (c.hidden, c.channels, c.temporal_patch, c.patch, c.patch),
        "visual.merger.ln_q.weight": (c.hidden,),
        "visual.merger.mlp.0.weight": (merged, merged),
        "visual.merger.mlp.0.bias": (merged,),
        "visual.merger.mlp.2.weight": (c.out_hidden, merged),
        "visual.merger.mlp.2.bias": (c.out_hidden,),
    }
    qkv = (c.heads + 2 * c.kv_heads) * c.head_dim
    for block in range(c.depth):
        prefix = f"visual.blocks.{block}."
        shapes[prefix + "norm1.weight"] = shapes[prefix + "norm2.weight"] = (c.hidden,)
        for name, out, into in (
            ("attn.qkv", qkv, c.hidden),
            ("attn.proj", c.hidden, c.hidden),
            ("mlp.gate_proj", c.intermediate, c.hidden),
            ("mlp.up_proj", c.intermediate, c.hidden),
            ("mlp.down_proj", c.hidden, c.intermediate),
        ):
            shapes[f"{prefix}{name}.weight"] = (out, into)
            shapes[f"{prefix}{name}.bias"] = (out,)
    return shapes


def _text_shapes(c: TextConfig) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "text.embed_tokens.weight": (c.vocab, c.hidden),
        "text.norm.weight": (c.hidden,),
    }
    for layer in range(c.layers):
        shapes |= _decoder_layer_shapes(c, f"text.layers.{layer}.")
    return shapes


def mtp_shapes(c: TextConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name and shape of every tensor of an MTP layer: a decoder layer behind what joins its two inputs."""
    return {
        "mtp.pre_fc_norm_embedding.weight": (c.hidden,),
        "mtp.pre_fc_norm_hidden.weight": (c.hidden,),
        "mtp.fc.weight": (c.hidden, 2 * c.hidden),
        "mtp.norm.weight": (c.hidden,),
    } | _decoder_layer_shapes(c, "mtp.layers.0.")


def _decoder_layer_shapes(c: TextConfig, prefix: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, out, into in (
        ("self_attn.q_proj", c.heads * c.head_dim, c.hidden),
        ("self_attn.k_proj", c.kv_heads * c.head_dim, c.hidden),
        ("self_attn.v_proj", c.kv_heads * c.head_dim, c.hidden),
        ("self_attn.o_proj", c.hidden, c.heads * c.head_dim),
        ("mlp.gate_proj", c.intermediate, c.hidden),
        ("mlp.up_proj", c.intermediate, c.hidden),
        ("mlp.down_proj", c.hidden, c.intermediate),
    ):
        shapes[f"{prefix}{name}.weight"] = (out, into)
    for name, size in (
        ("self_attn.q_norm", c.head_dim),
        ("self_attn.k_norm", c.head_dim),
        ("post_attention_layernorm", c.hidden),
        ("post_feedforward_layernorm", c.hidden),
    ):
        shapes[f"{prefix}{name}.weight"] = (size,)
    return shapes


def _stored_tensors(directory: Path) -> Iterator[StoredTensor]:
    """All tensors of a directory, from its single file or from the shards that its index names.

    Where there are both the single file counts, as for transformers: an index beside it was left by another form of
    the weights.
    """
    index_path = directory / INDEX_FILE
    if (directory / SINGLE_FILE).is_file():
        yield from read_header(directory / SINGLE_FILE).values()
        return
    if not index_path.is_file():
        others = sorted(p.name for p in directory.glob("*.bin")) + sorted(p.name for p in directory.glob("*.pt*"))
        hint = f"; {others[0]} is not read: only safetensors are, convert it" if others else ""
        raise CheckpointError(f"{directory} has neither {SINGLE_FILE} nor {INDEX_FILE}{hint}")
    weight_map = read_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise CheckpointError(f"{index_path}: 'weight_map' is missing or no map of tensors to files; fetch it again")
    for file in sorted(set(weight_map.values())):
        if not re.fullmatch(r"[\w.\-]+\.safetensors", file):
            raise CheckpointError(
                f"{index_path} names the file {file!r}; expected a *.safetensors file beside the index"
            )
        header = read_header(directory / file)
        for name in (name for name, place in weight_map.items() if place == file):
            if name not in header:
                raise CheckpointError(
                    f"{directory / file}: tensor '{name}' is missing, but {INDEX_FILE} says it is here"
                )
            yield header[name]


def _part_of(layout: Layout, name: str, tensor: StoredTensor) -> tuple[str, str] | None:
    """Layer and part that a tensor of canonical name `name` is in a quantised layout; None where it is plain."""
    for part in sorted((*layout.parts, *layout.aliases), key=len, reverse=True):
        if name.endswith(part) and (part != ".weight" or tensor.dtype not in ITEM_BYTES):
            return name.removesuffix(part), layout.aliases.get(part, part)
    return None


def _check(directory: Path, name: str, shape: tuple[int, ...], tensor: StoredTensor | None) -> None:
    if tensor is None:
        raise CheckpointError(
            f"{directory}: tensor '{name}' of shape {list(shape)} is missing; the weights do not belong to this "
            "config.json or are incomplete"
        )
    if tensor.shape != shape:
        raise CheckpointError(
            f"{tensor.file}: tensor '{tensor.name}' has shape {list(tensor.shape)}; expected {list(shape)} from "
            "config.json"
        )
    if tensor.dtype not in ITEM_BYTES and not isinstance(tensor, PublishedWeight):
        raise CheckpointError(
            f"{tensor.file}: tensor '{tensor.name}' is of type {tensor.dtype}; expected one of {tuple(ITEM_BYTES)}, or "
            "a quantization_config in config.json that says how it was quantised"
        )
