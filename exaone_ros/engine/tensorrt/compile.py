"""From a checkpoint directory to engines in the cache, and back from a checkpoint to its engines."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exaone_ros.engine.tensorrt.build import Progress, build_engine
from exaone_ros.engine.tensorrt.cache import MANIFEST, EngineCache, EngineKey, default_root, write_whole
from exaone_ros.engine.tensorrt.cuda import Device
from exaone_ros.engine.tensorrt.memory import MemoryEstimate, estimate
from exaone_ros.engine.tensorrt.plan import Capacity, EnginePlan, plan_engines
from exaone_ros.engine.tensorrt.scales import keep_scales, kept_scales, weights_key
from exaone_ros.engine.tensorrt.versions import Library
from exaone_ros.errors import CheckpointError, EngineError
from exaone_ros.model.awq import InputScales
from exaone_ros.model.checkpoint import Checkpoint
from exaone_ros.model.decoder_graph import build_decoder
from exaone_ros.model.onnx_graph import Graph, Weights
from exaone_ros.model.precision import PRECISIONS, Precision, WeightFormat
from exaone_ros.model.preprocess import PreprocessConfig, preprocess_file
from exaone_ros.model.quantize import linear_source
from exaone_ros.model.vision_graph import build_vision

_log = logging.getLogger(__name__)

ANY_GPU = "any"
FINGERPRINTS = "fingerprints.json"


@dataclass(frozen=True)
class Compiled:
    """The engines of a checkpoint: paths of their plans, and what they were built for."""

    vision: Path
    decoder: Path
    precision: Precision
    capacity: Capacity
    built: bool = False


@dataclass(frozen=True)
class Job:
    """One engine to be found or built."""

    plan: EnginePlan
    key: EngineKey
    graph: Graph


def compile_checkpoint(
    checkpoint: Checkpoint,
    library: Library,
    device: Device | None,
    precision: Precision,
    capacity: Capacity,
    *,
    scales: InputScales | None = None,
    root: Path | None = None,
    rebuild: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    available_bytes: Callable[[], int] | None = None,
) -> Compiled:
    """Build the engines of a checkpoint, or find them in the cache.

    Args:
        checkpoint: opened.
        library: that builds.
        device: that the engines are for; None without a GPU, which TensorRT-RTX alone can do.
        precision: of the decoder; the vision encoder is in its compute type.
        capacity: what the engines must hold.
        scales: AWQ-style scales of the quantisation; kept in the cache beside the engines.
        root: of the cache; None: the default.
        rebuild: build even where there are engines.
        force: build even where memory or disk seem too little; see `check_resources`.
        progress: told phases and how far they are.
        available_bytes: free main memory; None: what the system says.

    Raises:
        EngineError: no GPU where one is needed, too little memory or disk (said before anything is built), the library
            refuses, or an engine in the cache cannot be used and `rebuild` is False.
    """
    cache = EngineCache(root or default_root())
    with contextlib.suppress(OSError):  # so that the weights' hash can be kept; what is wrong is said before the build
        cache.root.mkdir(parents=True, exist_ok=True)
    jobs = plan_jobs(checkpoint, library, device, precision, capacity, cache.root, scales)
    missing = [job for job in jobs if rebuild or cache.find(job.key) is None]
    if missing:
        need = estimate(checkpoint.config, precision, capacity, aliased_kv=library.target.aliased_kv)
        check_resources(need, cache.root, device, (available_bytes or free_memory)(), precision, force=force)
    scales_file = keep_scales(scales, cache.root)
    paths, built = {}, False
    for job in jobs:
        extra: dict[str, Any] = {
            "capacity": asdict(capacity),
            "precision": precision.name,
            "checkpoint": str(checkpoint.directory),
            "input_scales": scales_file,
        }

        def build(folder: Path, job: Job = job, extra: dict[str, Any] = extra) -> Any:
            path = folder / "graph.onnx"
            job.graph.save(path, Weights.FILE)
            timing = cache.root / f"timing-{library.name}-{library.version}.cache"
            figures: dict[str, int] = {}
            extra["builder"] = figures
            return build_engine(
                library, job.plan, path, timing_cache=timing, progress=progress, report=figures.__setitem__
            )

        paths[job.plan.name], now = cache.get_or_build(job.key, build, rebuild=rebuild, extra=extra)
        built = built or now
    return Compiled(paths["vision"], paths["decoder"], precision, capacity, built)


def find_compiled(
    checkpoint: Checkpoint,
    library: Library,
    device: Device,
    *,
    slots: int,
    context: int,
    precision: str | None = None,
    root: Path | None = None,
) -> Compiled:
    """The newest engines of a checkpoint that hold what is asked for.

    Raises:
        EngineError: there are none, with the reason why each that there is does not do.
    """
    cache = EngineCache(root or default_root())
    fingerprint = remembered_fingerprint(checkpoint, cache.root)
    command = f"exaone compile {checkpoint.directory} --slots {slots} --context {context}"
    reasons = []
    for folder, manifest in cache.entries():
        if manifest.get("name") != "decoder":
            continue
        try:
            capacity, name = Capacity(**manifest["capacity"]), PRECISIONS[manifest["precision"]].name
            weights, built_by, gpu = manifest["weights"], (manifest["library"], manifest["version"]), manifest["gpu"]
            scales = kept_scales(manifest, cache.root)
        except (KeyError, TypeError, EngineError) as error:
            reasons.append(f"{folder / MANIFEST} is damaged or of another version ({error})")
            continue
        except CheckpointError as error:
            reasons.append(f"{folder.name} was built with input scales that are gone: {error}")
            continue
        if weights != weights_key(fingerprint, scales):
            same = manifest.get("checkpoint") == str(checkpoint.directory)
            reasons += [f"{folder.name} was built before the checkpoint changed"] if same else []
        elif built_by != (library.name, library.version):
            reasons.append(f"{folder.name} was built by {built_by[0]} {built_by[1]}")
        elif gpu != gpu_of(library, device):
            reasons.append(f"{folder.name} was built for {gpu}")
        elif precision is not None and name != precision:
            reasons.append(f"{folder.name} is in {name}")
        elif capacity.slots < slots or capacity.context < context:
            reasons.append(f"{folder.name} has {capacity.slots} slots of {capacity.context} tokens")
        else:
            jobs = plan_jobs(checkpoint, library, device, PRECISIONS[name], capacity, cache.root, scales)
            found = {job.plan.name: cache.find(job.key) for job in jobs}
            vision, decoder = found["vision"], found["decoder"]
            if vision is not None and decoder is not None:
                return Compiled(vision, decoder, PRECISIONS[name], capacity)
            reasons.append(f"{folder.name} was built from other graphs or without its vision encoder")
    there = f" ({'; '.join(reasons[:4])})" if reasons else ""
    raise EngineError(
        f"no engines for {checkpoint.directory} on {device.name} with {library.name} {library.version} in "
        f"{cache.root}{there}; build them: {command}"
    )


def check_build(
    checkpoint: Checkpoint,
    library: Library,
    device: Device | None,
    precision: Precision,
    capacity: Capacity,
    root: Path,
    *,
    force: bool = False,
) -> None:
    """Refuse what `compile_checkpoint` would refuse before it builds, without reading a weight.

    Raises:
        EngineError: the library does not take the precision, no GPU where one is needed, too little memory or disk.
    """
    gpu_of(library, device)
    plan_engines(checkpoint.config, library.target, precision, capacity)
    need = estimate(checkpoint.config, precision, capacity, aliased_kv=library.target.aliased_kv)
    check_resources(need, root, device, free_memory(), precision, force=force)


def plan_jobs(
    checkpoint: Checkpoint,
    library: Library,
    device: Device | None,
    precision: Precision,
    capacity: Capacity,
    root: Path,
    scales: InputScales | None = None,
) -> list[Job]:
    """Plans, graphs and keys of the two engines of a checkpoint; builds nothing.

    Raises:
        EngineError: the library does not take the precision, or needs a GPU that is not there; or there are scales
            for weights that are not quantised.
    """
    gpu = gpu_of(library, device)
    vision, decoder = plan_engines(checkpoint.config, library.target, precision, capacity)
    plain = PRECISIONS[vision.precision]
    preprocess = PreprocessConfig.read(checkpoint.directory, checkpoint.config.vision)
    if precision.weights is WeightFormat.PLAIN and scales is not None:
        raise EngineError(f"precision '{precision.name}' quantises nothing: calibration frames change nothing in it")
    linears = linear_source(checkpoint, precision, scales.by_layer if scales else None)
    ring = capacity.ring(checkpoint.config.text)
    graphs = [
        build_vision(checkpoint, preprocess, vision.opset, plain),
        build_decoder(
            checkpoint,
            capacity.context,
            decoder.opset,
            library.target.kv_write,
            precision,
            linears,
            fixed_capacity=True,
            ring=ring.length if ring else None,
        ),
    ]
    fingerprint = remembered_fingerprint(checkpoint, root)
    # The vision encoder is never quantised: engines with and without scales share it.
    weights = (fingerprint, weights_key(fingerprint, scales))
    return [
        Job(
            plan,
            EngineKey(plan.name, key, graph_hash(graph), plan.as_json(), library.name, library.version, gpu),
            graph,
        )
        for plan, graph, key in zip((vision, decoder), graphs, weights, strict=True)
    ]


def gpu_of(library: Library, device: Device | None) -> str:
    """Which device an engine is for: TensorRT's engines run on one model of GPU, TensorRT-RTX's on all of them.

    Raises:
        EngineError: TensorRT without a GPU.
    """
    if library.name == "tensorrt_rtx":
        return ANY_GPU
    if device is None:
        raise EngineError(
            "TensorRT builds engines on the GPU that will run them, and there is none here; run exaone compile on the "
            "robot, or install TensorRT-RTX (pip install 'exaone_ros[tensorrt-rtx]'), which builds without one"
        )
    return f"{device.name} sm_{device.capability[0]}{device.capability[1]}"


def graph_hash(graph: Graph) -> str:
    """SHA-256 over the nodes and over name, type and shape of each initializer."""
    digest = hashlib.sha256(graph.model.SerializeToString(deterministic=True))
    for name, value in graph.values.items():
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
    return digest.hexdigest()


def remembered_fingerprint(checkpoint: Checkpoint, root: Path) -> str:
    """The fingerprint of a checkpoint; its files are read again only when their size or time changed."""
    preprocess = [p for p in (preprocess_file(checkpoint.directory),) if p.is_file()]
    stats = [f"{p.resolve()} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in [*checkpoint.files, *preprocess]]
    state = hashlib.sha256("\n".join(stats).encode()).hexdigest()
    path = root / FINGERPRINTS
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if isinstance(known, dict) and isinstance(known.get(state), str):
        return str(known[state])
    digest = hashlib.sha256(checkpoint.fingerprint().encode())
    for file in preprocess:  # mean and deviation are folded into the vision engine
        digest.update(file.read_bytes())
    known = {**(known if isinstance(known, dict) else {}), state: digest.hexdigest()}
    if os.access(root, os.W_OK):
        with contextlib.suppress(OSError):  # a full disk: the files are read again the next time
            write_whole(path, json.dumps(known).encode())
    return digest.hexdigest()


def check_resources(
    need: MemoryEstimate,
    root: Path,
    device: Device | None,
    available_bytes: int,
    precision: Precision,
    *,
    force: bool = False,
) -> None:
    """Refuse a build that cannot end well; `force`: only warn, as what is needed is an estimate.

    Raises:
        EngineError: names what is short, how much there is and how much is needed.
    """
    folder = next(p for p in (root, *root.parents) if p.exists())
    smaller = "" if precision.weights in (WeightFormat.INT4, WeightFormat.NVFP4) else "int4, "
    elsewhere = "build int4" if smaller else "build on a machine with more (swap does not count)"
    shortages = [
        ("disk in " + str(folder), shutil.disk_usage(folder).free, need.build_disk, "choose another with --cache"),
        ("main memory", available_bytes, need.build_host, f"close other programs or {elsewhere}"),
    ]
    if device is not None:
        hint = f"choose {smaller}fewer slots or a shorter context"
        if device.total_bytes >= need.device:
            hint = f"end what else uses it (it has {device.total_bytes / 1e9:.1f} GB), or {hint}"
        shortages.append((f"memory of {device.name}", device.free_bytes, need.device, hint))
    for what, there, needed, hint in shortages:
        if there >= needed:
            continue
        short = f"{what}: {there / 1e9:.1f} GB free, but the build needs {needed / 1e9:.1f} GB"
        if not force:
            raise EngineError(f"{short}; {hint}; --force builds all the same and may be killed half-way")
        _log.warning("%s; building all the same: it may fail, or the system may kill it or other programs", short)


def free_memory() -> int:
    """Main memory that can be had without swapping, in bytes."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise EngineError("/proc/meminfo does not say how much memory is free; is this Linux?")
