"""A learned head without learning: files as training writes them, of a network that answers 0 to everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exaone_ros.action.heads.flow import GRAPH, FlowCard
from exaone_ros.action.spec import ActionSpec
from exaone_ros.action.statistics import Statistics
from exaone_ros.model.flow_graph import build_flow

WIDTH, TOKENS, DEPTH = 8, 64, 3


def write_flow_head(directory: Path, spec: ActionSpec) -> None:
    """Write `head.onnx` and `head.json` for a robot, on the colour grid of its camera `head`."""
    spread = Statistics.of(np.stack([spec.lower, spec.upper])).to_json()
    features = {"kind": "colour_grid", "source": ""}
    FlowCard(spec.hash, spec.embodiment, "head", features, (TOKENS, DEPTH), spread, spread, {}).write(directory)
    build_flow(_weights(len(spec.joints), spec.horizon), heads=2).save(directory / GRAPH)


def _weights(joints: int, horizon: int) -> dict[str, np.ndarray]:
    shapes = {"see": (WIDTH, DEPTH), "feel": (WIDTH, joints), "act": (WIDTH, joints), "when.0": (WIDTH, 1),
              "when.2": (WIDTH, WIDTH), "blocks.0.think.0": (WIDTH, WIDTH), "blocks.0.think.2": (WIDTH, WIDTH),
              "out": (joints, WIDTH)}  # fmt: skip
    for part in ("among", "across"):
        shapes |= {f"blocks.0.{part}.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value", "out")}
    weights = {"see_place": np.zeros((TOKENS, WIDTH), np.float32), "act_place": np.zeros((horizon, WIDTH), np.float32)}
    for name, shape in shapes.items():
        weights |= {f"{name}.weight": np.zeros(shape, np.float32), f"{name}.bias": np.zeros(shape[0], np.float32)}
    for name in ("norm", *(f"blocks.0.norms.{i}" for i in range(3))):
        weights |= {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}
    return weights
