"""From recorded episodes to an exported head: it learns, the graph is the network, and the node's settings load it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("pyarrow")
pytest.importorskip("av")

import torch

from exaone_ros.action.gate import Gate
from exaone_ros.action.heads.flow import GRAPH, FlowCard, FlowHead
from exaone_ros.action.observation import Observation
from exaone_ros.action.recorder.reader import DatasetReader
from exaone_ros.action.recorder.writer import DatasetWriter
from exaone_ros.action.spec import NS, ActionSpec
from exaone_ros.engine.features import ColourGrid
from exaone_ros.engine.loaded_graph import file_graph
from exaone_ros.errors import DatasetError, EngineError
from exaone_ros.model.flow_graph import build_flow
from exaone_ros.training import flow_head
from exaone_ros.training.flow_network import FlowNetwork

SPEC = dataclasses.replace(ActionSpec.make_example(), horizon=8, execute=4)
NOTHING = np.empty((0, 3), np.float32)


def observation(bright: bool, state: np.ndarray, stamp_ns: int = NS) -> Observation:
    image = np.full((32, 32, 3), 230 if bright else 20, np.uint8)
    return Observation(state.astype(np.float32), stamp_ns, {"head": image}, {"head": stamp_ns}, task="follow the light")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    """The shoulder goes up where it is bright and down where it is dark."""
    root = tmp_path_factory.mktemp("data") / "set"
    writer = DatasetWriter(root, SPEC, {"head": (32, 32)})
    for episode in range(2):
        sign = 1 if episode == 0 else -1
        for step in range(20):
            state = np.array([0.02 * step * sign, -0.5 + 0.001 * step, 0.01])
            writer.add_frame(observation(sign > 0, state), state + np.array([0.02 * sign, 0.0, 0.0]))
        writer.save_episode()
    writer.close()
    return DatasetReader(root)


def test_the_graph_is_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = FlowNetwork((5, 7), state=3, horizon=8, joints=4, width=16, layers=2, heads=2).eval()
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    build_flow(weights, network.heads).save(tmp_path / "g.onnx")
    random = np.random.default_rng(0)
    shapes = {"features": (1, 5, 7), "state": (1, 3), "actions": (1, 8, 4), "time": (1,)}
    inputs = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    velocity = file_graph(tmp_path / "g.onnx").run(inputs)["velocity"]
    with torch.no_grad():
        expected = network(*(torch.from_numpy(inputs[name]) for name in shapes)).numpy()
    assert np.abs(velocity - expected).max() < 1e-5 * np.abs(expected).max() + 1e-6
    with pytest.raises(ValueError, match=r"weights lack 'see\.weight'"):
        build_flow({}, 2)
    with pytest.raises(ValueError, match="no multiple of 3 heads"):
        build_flow(weights, 3)
    with pytest.raises(EngineError, match=r"g\.onnx failed"):
        file_graph(tmp_path / "g.onnx").run({})
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"g\.onnx cannot be loaded"):
        file_graph(tmp_path / "g.onnx")


def test_it_does_what_it_saw_in_training(dataset: DatasetReader, tmp_path: Path) -> None:
    encode = ColourGrid(2)
    samples = flow_head.load_samples(dataset, "head", encode)
    assert (samples.features.shape, samples.actions.shape) == ((40, 4, 3), (40, 8, 3))
    torch.set_num_threads(1)
    network, _ = flow_head.train(samples, 150, batch=32, width=32)
    statistics = {key: value.to_json() for key, value in dataset.statistics().items()}
    card = FlowCard(SPEC.hash, SPEC.embodiment, "head", {"kind": "colour_grid", "source": ""}, (4, 3),
                    statistics["observation.state"], statistics["action"], {})  # fmt: skip
    flow_head.export(network, card, tmp_path)
    graph = file_graph(tmp_path / GRAPH)
    head = FlowHead(FlowCard.read(tmp_path), SPEC, lambda inputs: graph.run(inputs)["velocity"], encode)
    state = np.array([0.0, -0.49, 0.01])
    ends = [head.predict(observation(bright, state), NOTHING, 0).actions[-1, 0] for bright in (True, False)]
    assert ends[0] > 0.05
    assert ends[1] < -0.05
    wild = observation(False, np.array([1.4, -1.9, 0.029]))  # far from anything it was trained on
    gate = Gate(SPEC)
    assert gate.open(SPEC.positions_from_state(wild.state), NS) is None
    assert gate.check(head.predict(wild, NOTHING, 0), NS) is None


def test_the_command(dataset: DatasetReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--features", "colour_grid"]
    assert flow_head.main([str(dataset.root), str(tmp_path / "head"), "--steps", "0", *options]) == 0
    told = capsys.readouterr()
    assert "40 samples, 0 steps" in told.out
    assert told.err.splitlines()[-1] == f"looking at episode {len(dataset)} of {len(dataset)}"
    card = FlowCard.read(tmp_path / "head")
    assert (card.shape, card.trained) == ((64, 3), {"episodes": 2, "samples": 40, "steps": 0})
    assert flow_head.main([str(tmp_path), str(tmp_path / "none"), *options]) == 1
    assert "info.json is missing" in capsys.readouterr().err
    with pytest.raises(DatasetError, match="no camera 'wrist'"):
        flow_head.load_samples(dataset, "wrist", ColourGrid())


@pytest.mark.parametrize(("option", "value"), [("--steps", "-5"), ("--threads", "0"), ("--steps", "many")])
def test_numbers_that_are_none_are_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        flow_head.main(["set", "head", option, value])
    assert f"argument {option}: it is '{value}'; expected a whole number" in capsys.readouterr().err
