"""The heads that the node's parameters choose from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx  # noqa: F401  (the tests need it; without it they are not collected)
import onnxruntime  # noqa: F401
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from exaone_ros.action.heads.flow import GRAPH, FlowCard
from exaone_ros.action.observation import Observation
from exaone_ros.action.statistics import Statistics
from exaone_ros.errors import ActionError, EngineError, ExaoneError
from exaone_ros.model.flow_graph import build_flow
from exaone_ros.ros.action_settings import PARAMETERS, ActionSettings
from exaone_ros.share import share_path

WIDTH = 8


def settings(**changes: object) -> ActionSettings:
    defaults = {parameter.name: parameter.default for parameter in PARAMETERS}
    robot = str(share_path("config/tabletop_humanoid_camera.yaml"))
    return ActionSettings.from_values(defaults | {"robot_file": robot} | changes)


def flow_weights(tokens: int, depth: int, joints: int, horizon: int) -> dict[str, np.ndarray]:
    """Of a network with one block that answers 0 to everything."""
    shapes = {"see": (WIDTH, depth), "feel": (WIDTH, joints), "act": (WIDTH, joints), "when.0": (WIDTH, 1),
              "when.2": (WIDTH, WIDTH), "blocks.0.think.0": (WIDTH, WIDTH), "blocks.0.think.2": (WIDTH, WIDTH),
              "out": (joints, WIDTH)}  # fmt: skip
    for part in ("among", "across"):
        shapes |= {f"blocks.0.{part}.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value", "out")}
    weights = {"see_place": np.zeros((tokens, WIDTH), np.float32), "act_place": np.zeros((horizon, WIDTH), np.float32)}
    for name, shape in shapes.items():
        weights |= {f"{name}.weight": np.zeros(shape, np.float32), f"{name}.bias": np.zeros(shape[0], np.float32)}
    for name in ("norm", *(f"blocks.0.norms.{i}" for i in range(3))):
        weights |= {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}
    return weights


def test_a_trained_head_is_loaded_and_makes_chunks_for_this_robot(tmp_path: Path) -> None:
    spec = settings().robot.spec
    spread = Statistics.of(np.stack([spec.lower, spec.upper])).to_json()
    card = FlowCard(spec.hash, spec.embodiment, "head", {"kind": "colour_grid", "source": ""}, (64, 3), spread, spread,
                    {})  # fmt: skip
    card.write(tmp_path)
    build_flow(flow_weights(64, 3, len(spec.joints), spec.horizon), 2).save(tmp_path / GRAPH)
    chosen = settings(head="flow", flow_head=str(tmp_path))
    assert not chosen.needs_target
    head = chosen.make_head()
    chunk = head.predict(Observation.make_example(spec), np.empty((0, len(spec.joints)), np.float32), 0)
    assert (chunk.head, chunk.spec_hash, chunk.actions.shape) == ("flow_stub", spec.hash, (16, len(spec.joints)))
    with pytest.raises(ActionError, match="was trained for spec"):
        settings(head="flow", flow_head=str(tmp_path), robot_file="").make_head()
    (tmp_path / GRAPH).write_bytes(b"")
    with pytest.raises(EngineError, match="cannot be loaded"):
        settings(head="flow", flow_head=str(tmp_path)).make_head()


def test_what_a_head_needs_is_asked_for(tmp_path: Path) -> None:
    for changes, words in (
        ({"head": "flow"}, "head 'flow' needs 'flow_head'"),
        ({"head": "flow", "flow_head": str(tmp_path)}, "is no card of a flow head"),
        ({"head": "replay"}, "head 'replay' needs 'replay_dataset'"),
        ({"head": "sine", "sine_joint": "tail"}, "joint 'tail' is not in the spec"),
    ):
        with pytest.raises(ExaoneError, match=words):
            settings(**changes).make_head()
    assert settings(head="hold").make_head().name == "hold_stub"
    assert settings(head="sine").make_head().name == "sine_stub"
    assert settings(head="reach").make_head().name == "reach_stub"
    assert settings(head="reach").needs_target
