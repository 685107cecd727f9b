"""Configurations as they are released, as transformers writes them, and as nobody should write them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model.tiny_checkpoint import tiny_config

from exaone_ros.errors import CheckpointError
from exaone_ros.model.config import FULL, SLIDING, ModelConfig, RopeConfig


def released_33b() -> dict[str, Any]:
    """The hyper-parameters of EXAONE 4.5 33B in the form of its release."""
    return {
        "model_type": "exaone4_5",
        "image_token_id": 67,
        "text_config": {
            "model_type": "exaone4_5_text",
            "vocab_size": 153600,
            "hidden_size": 5120,
            "intermediate_size": 27392,
            "num_hidden_layers": 64,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 262144,
            "sliding_window": 4096,
            "sliding_window_pattern": "LLLG",
            "layer_types": ([SLIDING] * 3 + [FULL]) * 16 + [FULL],
            "rope_theta": 1000000,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 16.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            "eos_token_id": 53,
        },
        "vision_config": {
            "model_type": "exaone4_5_vision",
            "depth": 28,
            "hidden_size": 2048,
            "num_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 5120,
            "fullatt_block_indexes": [6, 13, 20, 27],
            "out_hidden_size": 5120,
        },
    }


def with_value(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(tiny_config())
    *sections, key = path.split(".")
    place = raw
    for section in sections:
        place = place[section]
    if value is KeyError:
        place.pop(key, None)
    else:
        place[key] = value
    return raw


def test_the_released_form_of_the_33b() -> None:
    config = ModelConfig.parse(released_33b())
    assert config.text.layer_types == ((SLIDING,) * 3 + (FULL,)) * 16, "the 65th entry belongs to the MTP layer"
    assert config.text.rope == RopeConfig(1e6, 16.0, 1.0, 4.0, 8192)
    assert (config.text.heads, config.text.kv_heads, config.text.head_dim) == (40, 8, 128)
    assert config.eos_tokens == (53,)
    assert (config.vision.window_px, config.vision.window_patches, config.vision.rope_theta) == (112, 64, 10_000.0)
    assert [config.text.has_rope(layer) for layer in range(4)] == [True, True, True, False]


def test_defaults_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    raw = {
        "model_type": "exaone4_5",
        "text_config": {"hidden_size": 3584, "num_attention_heads": 28},
        "vision_config": {},
    }
    raw["text_config"]["num_key_value_heads"] = 4
    found = ModelConfig.parse(raw)
    expected = transformers.Exaone4_5_Config(
        text_config={"model_type": "exaone4", **raw["text_config"]}, vision_config={}
    )
    vision, text = expected.vision_config, expected.text_config
    assert (found.vision.depth, found.vision.hidden, found.vision.heads) == (
        vision.depth,
        vision.hidden_size,
        vision.num_heads,
    )
    assert found.vision.kv_heads == vision.num_key_value_heads
    assert found.vision.intermediate == vision.intermediate_size
    assert found.vision.window_px == vision.window_size
    assert found.vision.full_attention_blocks == tuple(vision.fullatt_block_indexes)
    assert found.vision.rope_theta == vision.rope_parameters["rope_theta"]
    assert (found.text.vocab, found.text.layers, found.text.intermediate) == (
        text.vocab_size,
        text.num_hidden_layers,
        text.intermediate_size,
    )
    assert found.text.rms_eps == text.rms_norm_eps
    assert found.text.sliding_window == text.sliding_window
    assert list(found.text.layer_types) == text.layer_types
    assert found.text.rope.theta == text.rope_parameters["rope_theta"]
    assert found.text.max_context == text.max_position_embeddings
    assert found.image_token == expected.image_token_id


@pytest.mark.parametrize("theta", [1e4, 1e6])
@pytest.mark.parametrize("original", [64, 8192])
def test_llama3_frequencies_are_those_of_transformers(theta: float, original: int) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_theta": theta, "rope_type": "llama3", "factor": 16.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = original
    config = transformers.Exaone4Config(hidden_size=128, num_attention_heads=1, head_dim=128, rope_parameters=rope)
    expected = ROPE_INIT_FUNCTIONS["llama3"](config)[0].numpy()
    found = RopeConfig(theta, 16.0, 1.0, 4.0, original).inverse_frequencies(128)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(np.unique(np.round(expected * 16 * theta ** (np.arange(64) / 64), 3))) > 2, "all three ranges occur"


@pytest.mark.parametrize(
    ("pattern", "layers", "expected"),
    [
        ("LLLG", 6, [SLIDING, SLIDING, SLIDING, FULL, SLIDING, FULL]),
        ("LG", 4, [SLIDING, FULL, SLIDING, FULL]),
        (4, 6, [SLIDING, SLIDING, SLIDING, FULL, SLIDING, SLIDING]),
        (1, 3, [FULL] * 3),
        (None, 3, [FULL] * 3),
    ],
)
def test_layer_types_from_a_pattern(pattern: object, layers: int, expected: list[str]) -> None:
    raw = with_value("text_config.layer_types", KeyError)
    raw["text_config"] |= {"sliding_window_pattern": pattern, "num_hidden_layers": layers}
    assert ModelConfig.parse(raw).text.layer_types == tuple(expected)


def test_without_a_sliding_window_all_layers_are_global_and_rotated() -> None:
    raw = with_value("text_config.sliding_window", None)
    del raw["text_config"]["layer_types"]
    text = ModelConfig.parse(raw).text
    assert text.layer_types == (FULL,) * 4
    assert all(text.has_rope(layer) for layer in range(4))


def test_end_tokens_of_generation_config_win(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(tiny_config()))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [53, 2]}')
    assert ModelConfig.read(tmp_path).eos_tokens == (53, 2)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model_type", "qwen2_5_vl", "'qwen2_5_vl'; expected 'exaone4_5'"),
        ("model_type", KeyError, "None; expected 'exaone4_5'"),
        ("text_config", KeyError, "'text_config' is None"),
        ("vision_config", [], "'vision_config' is []"),
        ("text_config.model_type", "llama", "model_type is 'llama'"),
        ("text_config.hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("text_config.num_hidden_layers", 0, "num_hidden_layers is 0"),
        ("text_config.num_hidden_layers", "4", "num_hidden_layers is '4'"),
        ("text_config.num_hidden_layers", 2, "layer_types has 4 entries for 2 layers"),
        ("text_config.num_key_value_heads", 3, "4 query heads cannot share 3"),
        ("text_config.head_dim", 15, "head_dim is 15"),
        ("text_config.layer_types", ["linear_attention"] * 4, "linear_attention"),
        ("text_config.sliding_window", None, "sliding_window is null"),
        ("text_config.sliding_window", -1, "sliding_window is -1"),
        ("text_config.rms_norm_eps", 0, "rms_norm_eps is 0"),
        ("text_config.rope_parameters.rope_type", "yarn", "rope_type is 'yarn'"),
        ("text_config.rope_parameters.factor", KeyError, "factor is None"),
        ("text_config.rope_parameters.high_freq_factor", 0.5, "high_freq_factor is 0.5"),
        ("text_config.rope_parameters.partial_rotary_factor", 0.5, "partial_rotary_factor"),
        ("text_config.hidden_size", 32, "out_hidden_size is 64"),
        ("text_config.eos_token_id", 160, "eos_token_id is 160"),
        ("image_token_id", 5000, "image_token_id is 5000"),
        ("vision_config.model_type", "siglip", "'siglip'"),
        ("vision_config.in_channels", 1, "in_channels is 1"),
        ("vision_config.num_heads", 5, "no multiple of num_heads 5"),
        ("vision_config.hidden_size", 8, "needs a multiple of 4"),
        ("vision_config.window_size", 100, "window_size is 100"),
        ("vision_config.fullatt_block_indexes", "all", "fullatt_block_indexes is 'all'"),
        ("vision_config.rope_parameters", {"rope_type": "llama3"}, "'llama3'"),
        ("vision_config.patch_size", [14, 16], "patch_size is [14, 16]"),
        ("vision_config.rope_parameters", ["axial"], "rope_parameters is ['axial']; expected an object"),
        ("vision_config.depth", 10**18, "depth is 1000000000000000000; expected an integer of at most 1000"),
        ("text_config.num_hidden_layers", 1001, "num_hidden_layers is 1001; expected an integer of at most 1000"),
        ("text_config.rms_norm_eps", 10**400, "rms_norm_eps is 1000"),
        ("text_config.rms_norm_eps", float("inf"), "rms_norm_eps is inf"),
        ("eos_token_id", [], "eos_token_id is []"),
    ],
)
def test_a_wrong_value_is_named(path: str, value: Any, said: str) -> None:
    with pytest.raises(CheckpointError) as error:
        ModelConfig.parse(with_value(path, value), where="the/config.json")
    assert said in str(error.value)
    assert "the/config.json" in str(error.value)


def test_a_rotary_embedding_for_each_kind_of_layer_is_refused() -> None:
    """As `transformers` writes it for other models: read as one, it would be the default without a word."""
    config = tiny_config()
    rope = config["text_config"]["rope_parameters"]
    config["text_config"]["rope_parameters"] = {SLIDING: rope, FULL: rope}
    with pytest.raises(CheckpointError, match="rope_parameters has a 'sliding_attention'"):
        ModelConfig.parse(config)


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", "[" * 100_000, "1" * 5000])
def test_a_file_that_is_no_json_object(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        ModelConfig.read(tmp_path)
