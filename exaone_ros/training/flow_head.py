"""Train the flow-matching head on recorded episodes and export it to ONNX.

`python -m exaone_ros.training.flow_head DATASET OUT --model DIR`: the features are the last hidden states of an EXAONE
checkpoint; `--features colour_grid` needs none, and does not know the instruction. One process, on the CPU, minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from exaone_ros.action.heads.flow import GRAPH, Encoder, FlowCard
from exaone_ros.action.recorder.reader import DatasetReader
from exaone_ros.action.schemas import ACTION, STATE
from exaone_ros.action.statistics import QUANTILES
from exaone_ros.engine.features import BUNDLED_MODEL, COLOUR_GRID, HIDDEN_STATES, open_features
from exaone_ros.errors import DatasetError, ExaoneError
from exaone_ros.model.flow_graph import build_flow
from exaone_ros.model.onnx_graph import Weights
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.share import share_path
from exaone_ros.training.cli_arguments import whole
from exaone_ros.training.flow_network import WIDTH, FlowNetwork


@dataclass(frozen=True, eq=False)
class Samples:
    """Attributes: features float32 [N, T, D], state [N, S] and actions [N, H, A], both normalised."""

    features: NDArray[np.float32]
    state: NDArray[np.float32]
    actions: NDArray[np.float32]


def load_samples(
    dataset: DatasetReader, camera: str, encode: Encoder, told: Callable[[str], None] = lambda line: None
) -> Samples:
    """One sample for each frame: what was seen and asked, and the actions from there on; an episode's end is held.

    `told` gets a line before each episode: making hidden states takes most of the time.

    Raises:
        DatasetError: no episodes, or no such camera.
    """
    if len(dataset) == 0:
        raise DatasetError(f"{dataset.root} has no episodes; record some first")
    statistics, horizon = dataset.statistics(), dataset.spec.horizon
    features, states, actions = [], [], []
    for index in range(len(dataset)):
        told(f"looking at episode {index + 1} of {len(dataset)}")
        episode, images = dataset.episode(index), dataset.images(index, camera)
        features += [encode(image, task) for image, task in zip(images, episode.tasks, strict=True)]
        states.append(statistics[STATE].normalised(episode.state, QUANTILES))
        ahead = np.minimum(np.arange(len(episode.action))[:, None] + np.arange(horizon), len(episode.action) - 1)
        actions.append(statistics[ACTION].normalised(episode.action, QUANTILES)[ahead])
    return Samples(np.stack(features), np.concatenate(states), np.concatenate(actions))


def train(
    samples: Samples, steps: int, seed: int = 0, batch: int = 64, width: int = WIDTH
) -> tuple[FlowNetwork, float]:
    """Fit the velocity from noise to the recorded actions; returns the network and the mean loss of the last tenth.

    With no steps the network is random, and the loss NaN.
    """
    torch.manual_seed(seed)
    features, state, actions = (torch.from_numpy(x) for x in (samples.features, samples.state, samples.actions))
    network = FlowNetwork(
        (features.shape[1], features.shape[2]), state.shape[1], actions.shape[1], actions.shape[2], width
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=max(steps, 2))
    losses = []
    for _ in range(steps):
        pick = torch.randint(len(actions), (batch,))
        noise, time = torch.randn_like(actions[pick]), torch.rand(batch)
        mixed = (1 - time)[:, None, None] * noise + time[:, None, None] * actions[pick]
        velocity = network(features[pick], state[pick], mixed, time)
        loss = torch.mean((velocity - (actions[pick] - noise)) ** 2)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return network.eval(), float(np.mean(losses[-max(1, steps // 10) :])) if losses else float("nan")


def export(network: FlowNetwork, card: FlowCard, directory: Path) -> None:
    """Write the graph and the card that the node's head `flow` reads."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    build_flow(weights, network.heads).save(directory / GRAPH, Weights.INLINE)
    card.write(directory)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@ends_with_its_reader
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.training.flow_head", description=__doc__)
    parser.add_argument("dataset", type=Path, help="a dataset recorded by this package")
    parser.add_argument("out", type=Path, help="directory for head.onnx and head.json")
    parser.add_argument("--camera", default="", help="of the dataset; default: its first")
    parser.add_argument("--features", choices=(HIDDEN_STATES, COLOUR_GRID), default=HIDDEN_STATES)
    parser.add_argument("--model", type=Path, help="EXAONE checkpoint of the hidden states; default: the bundled one")
    parser.add_argument("--steps", type=whole(0), default=2000, help="0 = leave it random")
    parser.add_argument("--threads", type=whole(1), default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        dataset = DatasetReader(options.dataset)
        spec = dataset.spec
        if not spec.cameras:
            raise DatasetError(f"{dataset.root} has no camera; the head needs one")
        camera = options.camera or spec.cameras[0]
        model = options.model or (share_path(BUNDLED_MODEL) if options.features == HIDDEN_STATES else None)
        encode = open_features(options.features, model, options.threads)
        samples = load_samples(dataset, camera, encode, _to_stderr)
        network, loss = train(samples, options.steps, options.seed)
        statistics, (_, tokens, depth) = dataset.statistics(), samples.features.shape
        trained = {"episodes": len(dataset), "samples": len(samples.state), "steps": options.steps}
        card = FlowCard(
            spec=spec.hash,
            embodiment=spec.embodiment,
            camera=camera,
            features={"kind": encode.kind, "source": encode.source},
            shape=(tokens, depth),
            state=statistics[STATE].to_json(),
            action=statistics[ACTION].to_json(),
            trained=trained | ({"loss": loss} if options.steps else {}),
        )
        export(network, card, options.out)
    except ExaoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(samples.actions)} samples, {options.steps} steps, loss {loss:.4f}; wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
