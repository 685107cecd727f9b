"""The bundled checkpoint, through its own prompt: every backend gives the answer that `transformers` gives."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")

from engine.backends.runnable import HERE
from model.reference import greedy, relative_error, visual_tokens

from exaone_ros.engine.backend import Row
from exaone_ros.engine.backends import open_backend
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.config import ModelConfig

BUNDLED = Path(__file__).parents[3] / "models" / "exaone4_5-tabletop-tiny"

pytestmark = pytest.mark.skipif(
    not (BUNDLED / "model.safetensors").is_file(), reason="the bundled checkpoint has no weights in this tree"
)


def table(seed: int) -> np.ndarray:
    """A grey table with three blocks, at the size that the checkpoint is pinned to, so that nothing is resized."""
    rng = np.random.default_rng(seed)
    image = np.full((252, 336, 3), 150, np.uint8)
    for colour in ((200, 40, 40), (40, 160, 60), (50, 80, 200)):
        y, x = rng.integers(40, 180), rng.integers(20, 260)
        image[y : y + 45, x : x + 45] = colour
    return image


@lru_cache
def truth(question: str) -> tuple[np.ndarray, list[int]]:
    """Visual tokens and answer of `transformers`."""
    image = table(len(question))
    visual = visual_tokens(BUNDLED, image)
    prompt = PromptEncoder.open(BUNDLED, ModelConfig.read(BUNDLED)).encode(question, [len(visual)])
    return visual, greedy(BUNDLED, np.concatenate([prompt.prefix, prompt.suffix]), [image], 64)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("question", ["How many blocks are on the table?", "Find the red block."])
def test_the_same_64_greedy_tokens(name: str, question: str) -> None:
    image = table(len(question))
    backend = open_backend(name, BUNDLED, slots=2, context=512, threads=1)
    config = ModelConfig.read(BUNDLED)
    encoder = PromptEncoder.open(BUNDLED, config)
    # The answers end long before the 64th token; like `min_new_tokens` of the reference, go on behind their end.
    more = np.zeros(config.text.vocab, np.float32)
    more[list(config.eos_tokens)] = -np.inf
    visual = backend.encode(image)
    expected_visual, expected_answer = truth(question)
    assert relative_error(np.asarray(visual.embeddings), expected_visual) < 1e-3
    prompt = encoder.encode(question, [visual.count])
    backend.run([Row(0, 0, prompt.prefix, (visual,), 0)])
    backend.copy(0, [1], len(prompt.prefix))
    (last,) = backend.run([Row(1, len(prompt.prefix), prompt.suffix)])
    length = len(prompt.prefix) + len(prompt.suffix)
    answer = [int((last[0] + more).argmax())]
    for step in range(63):
        (last,) = backend.run([Row(1, length + step, np.array(answer[-1:]))])
        answer.append(int((last[0] + more).argmax()))
    backend.close()
    assert answer == expected_answer
