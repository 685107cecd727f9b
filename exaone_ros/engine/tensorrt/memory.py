"""What a model takes on a device and on the host that builds it, computed from its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from exaone_ros.engine.backends.ring import cache_bytes
from exaone_ros.engine.tensorrt.plan import Capacity, host_input_bytes, vision_rows
from exaone_ros.model.config import ModelConfig, TextConfig, VisionConfig
from exaone_ros.model.precision import Precision, WeightFormat
from exaone_ros.model.quantize import block_size

_BITS = {WeightFormat.INT8: 8.0, WeightFormat.FP8: 8.0, WeightFormat.INT4: 4.0, WeightFormat.NVFP4: 4.0}
# The CUDA context and the library's own kernels on the device. An allowance, not a measurement.
CONTEXT_BYTES = 600_000_000
# Scratch memory of an engine's kernels; nothing beside the activations of a real model.
SCRATCH_BYTES = 8 << 20
# Peak of the host while TensorRT-RTX builds, over the size of the weights: the parser's copy, the network's, the plan.
# Measured with layers of the real size: 2.5 to 3.0 times what each adds; see docs/tensorrt.md.
BUILD_FACTOR = 3.0
BUILD_BASE_BYTES = 1_000_000_000


# Encoded pictures that an engine keeps (`Scheduling.kept_pictures`), and the one that is being encoded.
PICTURES = 16 + 1


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by purpose.

    `caches`, `buffers`, `pictures` and `pinned` are what the backend allocates, to the byte. Prompt heads that are kept
    lie in slots, so they are among `caches`. The MTP layer is not compiled and takes nothing.

    Attributes:
        decoder_weights, vision_weights: on the device.
        caches: KV caches of all slots; twice where the engine does not write them in place.
        buffers: inputs from the host, the visual tokens of a run, logits.
        pictures: encoded pictures at the engine's own limit (`PICTURES`), each as large as one can get. Allocated as
            pictures come.
        activations: what the engines compute in, one block for both, as large as the larger needs.
        pinned: main memory that copies go through. On a Jetson it is the device's as well.
        context: of CUDA and the library.
        unified: the device computes in main memory (a Jetson).
    """

    decoder_weights: int
    vision_weights: int
    caches: int
    buffers: int
    pictures: int
    activations: int
    pinned: int
    context: int = CONTEXT_BYTES
    unified: bool = False

    @property
    def device(self) -> int:
        """All of it that lies on the device."""
        return sum(self.items().values())

    def items(self) -> dict[str, int]:
        """What lies on the device, by its purpose in words."""
        found = {
            "decoder": self.decoder_weights, "vision encoder": self.vision_weights, "KV caches": self.caches,
            "buffers": self.buffers, "pictures": self.pictures, "activations": self.activations,
            "CUDA": self.context,
        }  # fmt: skip
        return found | ({"pinned": self.pinned} if self.unified else {})

    @property
    def build_host(self) -> int:
        """Main memory that building the larger engine takes."""
        return int(BUILD_FACTOR * self.decoder_weights) + BUILD_BASE_BYTES

    @property
    def build_disk(self) -> int:
        """Disk for the graph with its weights and for the engines, which exist at the same time."""
        return 2 * (self.decoder_weights + self.vision_weights)


def estimate(
    config: ModelConfig, precision: Precision, capacity: Capacity, *, aliased_kv: bool = True, unified: bool = False
) -> MemoryEstimate:
    """Memory of a model.

    Args:
        config: of the checkpoint.
        precision: of the decoder.
        capacity: what the engines hold.
        aliased_kv: the engine writes caches in place.
        unified: the device computes in main memory.
    """
    c, item = config.text, precision.compute.itemsize
    cache = cache_bytes(c, capacity.slots, capacity.context, capacity.ring(c), item)
    inputs, logits = host_input_bytes(config, capacity), capacity.logits * c.vocab * 4
    picture = capacity.visual_tokens * c.hidden * 4
    return MemoryEstimate(
        decoder_weights=decoder_weight_bytes(c, precision),
        vision_weights=vision_weight_bytes(config.vision, item),
        caches=cache if aliased_kv else 2 * cache,
        buffers=inputs + picture + logits,
        pictures=PICTURES * picture,
        activations=max(
            decoder_activation_bytes(config, capacity, item), vision_activation_bytes(config, capacity, item)
        ),
        pinned=inputs + logits,
        unified=unified,
    )


def decoder_weight_bytes(c: TextConfig, precision: Precision) -> int:
    """Weights of the decoder as its graph holds them, without norms' and tables' few megabytes."""
    item = precision.compute.itemsize
    linears = [
        (c.hidden, c.heads * c.head_dim),
        *[(c.hidden, c.kv_heads * c.head_dim)] * 2,
        (c.heads * c.head_dim, c.hidden),
        *[(c.hidden, c.intermediate)] * 2,
        (c.intermediate, c.hidden),
    ]
    return c.layers * sum(_linear_bytes(into, out, precision) for into, out in linears) + 2 * c.vocab * c.hidden * item


def _linear_bytes(into: int, out: int, precision: Precision) -> int:
    item = precision.compute.itemsize
    block = block_size(precision.weights, into)
    if precision.weights is WeightFormat.PLAIN or block == 0:
        return into * out * item
    scales = (into // block if block else 1) * out * (1 if precision.weights is WeightFormat.NVFP4 else item)
    return int(into * out * _BITS[precision.weights] / 8) + scales


def vision_weight_bytes(c: VisionConfig, item_bytes: int) -> int:
    """Weights of the vision encoder."""
    attention = c.hidden * (c.heads + 2 * c.kv_heads) * c.head_dim + c.hidden**2
    merged = c.hidden * c.merge**2
    patches = c.channels * c.patch**2 * c.hidden
    blocks = c.depth * (attention + 3 * c.hidden * c.intermediate)
    return (blocks + merged * merged + merged * c.out_hidden) * item_bytes + patches * 4


def decoder_activation_bytes(config: ModelConfig, capacity: Capacity, item: int) -> int:
    """What an execution context of the decoder needs for its largest batch.

    Three residual streams in float32, the MLP's two projections, what is activated of them and their product, the mask
    in the compute type, and the kernels' scratch memory. Fitted to what TensorRT-RTX 1.7.1 says of its engines, small
    ones and layers of the real size; see test_rtx_builder.py and docs/tensorrt.md.
    """
    t = config.text
    rows = capacity.slots * capacity.chunk
    return rows * _row_bytes(t.hidden, t.intermediate, item) + rows * capacity.context * item + SCRATCH_BYTES


def vision_activation_bytes(config: ModelConfig, capacity: Capacity, item: int) -> int:
    """The same of the vision encoder, for its largest image."""
    v = config.vision
    patches, _ = vision_rows(v, capacity.visual_tokens)
    return patches * _row_bytes(v.hidden, v.intermediate, item) + SCRATCH_BYTES


def _row_bytes(hidden: int, intermediate: int, item: int) -> int:
    return 3 * 4 * hidden + 4 * item * intermediate
