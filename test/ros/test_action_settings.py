"""The heads that the node's parameters choose from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx  # noqa: F401  (the tests need it; without it they are not collected)
import onnxruntime  # noqa: F401
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from flow_files import write_flow_head

from exaone_ros.action.heads.flow import GRAPH
from exaone_ros.action.observation import Observation
from exaone_ros.errors import ActionError, EngineError, ExaoneError
from exaone_ros.ros.action_settings import PARAMETERS, ActionSettings
from exaone_ros.share import share_path


def settings(**changes: object) -> ActionSettings:
    defaults = {parameter.name: parameter.default for parameter in PARAMETERS}
    robot = str(share_path("config/tabletop_humanoid_camera.yaml"))
    return ActionSettings.from_values(defaults | {"robot_file": robot} | changes)


def test_a_trained_head_is_loaded_and_makes_chunks_for_this_robot(tmp_path: Path) -> None:
    spec = settings().robot.spec
    write_flow_head(tmp_path, spec)
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
        ({"head": "plugin"}, "head 'plugin' needs 'head_plugin'"),
        ({"head": "plugin", "head_plugin": "mine"}, "no installed package declares a head 'mine'"),
        ({"head": "sine", "sine_joint": "tail"}, "joint 'tail' is not in the spec"),
    ):
        with pytest.raises(ExaoneError, match=words):
            settings(**changes).make_head()
    assert settings(head="hold").make_head().name == "hold_stub"
    assert settings(head="sine").make_head().name == "sine_stub"
    assert settings(head="reach").make_head().name == "reach_stub"
    assert settings(head="reach").needs_target


def test_the_yaml_lists_every_parameter_with_its_default() -> None:
    listed = yaml.safe_load(share_path("config/action_head.yaml").read_text())["/**"]["ros__parameters"]
    assert listed == {parameter.name: parameter.default for parameter in PARAMETERS}
