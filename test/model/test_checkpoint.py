"""Checkpoints that are whole, split, renamed, and broken in every way that a download can break them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from model.tiny_checkpoint import random_weights, tiny_config, write_checkpoint, write_safetensors

from exaone_ros.errors import CheckpointError
from exaone_ros.model.checkpoint import Checkpoint, canonical_name, expected_shapes
from exaone_ros.model.config import ModelConfig

Q_PROJ = "model.language_model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path)


def rewrite(directory: Path, weights: dict[str, np.ndarray]) -> None:
    write_safetensors(directory / "model.safetensors", weights)


def split(directory: Path) -> dict[str, str]:
    """Turn a checkpoint into two shards with an index; returns the weight map."""
    weights = random_weights(tiny_config())
    (directory / "model.safetensors").unlink(missing_ok=True)
    names = sorted(weights)
    place = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(place.values()):
        write_safetensors(directory / file, {name: weights[name] for name in names if place[name] == file})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    return place


def test_weights_come_back_by_canonical_name(directory: Path) -> None:
    checkpoint = Checkpoint.open(directory)
    weights = random_weights(tiny_config())
    assert set(checkpoint.tensors) == set(expected_shapes(checkpoint.config))
    np.testing.assert_array_equal(checkpoint.read("text.layers.0.self_attn.q_proj.weight"), weights[Q_PROJ])
    np.testing.assert_array_equal(checkpoint.read("lm_head.weight"), weights["lm_head.weight"])
    assert checkpoint.dtype == "F32"


def test_expected_tensors_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    import torch

    raw = tiny_config()
    with torch.device("meta"):
        model = transformers.Exaone4_5_ForConditionalGeneration._from_config(transformers.Exaone4_5_Config(**raw))
    theirs = {canonical_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    assert theirs == expected_shapes(ModelConfig.parse(raw))


def test_what_transformers_saves_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.Exaone4_5_ForConditionalGeneration._from_config(transformers.Exaone4_5_Config(**tiny_config()))
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    checkpoint = Checkpoint.open(tmp_path)
    found = checkpoint.read("text.layers.3.mlp.down_proj.weight")
    expected = model.model.language_model.layers[3].mlp.down_proj.weight.detach().float().numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("dtype", "step"), [("F16", 2**-10), ("BF16", 2**-7)])
def test_half_precision_is_read_as_float32(tmp_path: Path, dtype: str, step: float) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, dtype=dtype))
    values = checkpoint.read("lm_head.weight")
    assert values.dtype == np.float32
    assert checkpoint.dtype == dtype
    np.testing.assert_allclose(values, random_weights(tiny_config())["lm_head.weight"], rtol=step, atol=1e-6)


@pytest.mark.parametrize(
    ("visual", "text", "head"),
    [
        ("visual.", "model.", "lm_head."),
        ("visual.", "language_model.model.", "language_model.lm_head."),
        ("model.visual.", "model.language_model.", "model.language_model.lm_head."),
    ],
)
def test_other_prefixes_are_understood(directory: Path, visual: str, text: str, head: str) -> None:
    renamed = {"model.visual.": visual, "model.language_model.": text, "lm_head.": head}
    weights = {}
    for name, values in random_weights(tiny_config()).items():
        old = next(prefix for prefix in renamed if name.startswith(prefix))
        weights[renamed[old] + name[len(old) :]] = values
    rewrite(directory, weights)
    checkpoint = Checkpoint.open(directory)
    assert set(checkpoint.tensors) == set(expected_shapes(checkpoint.config))


def test_shards_are_read_through_their_index(directory: Path) -> None:
    split(directory)
    checkpoint = Checkpoint.open(directory)
    np.testing.assert_array_equal(
        checkpoint.read("text.layers.0.self_attn.q_proj.weight"), random_weights(tiny_config())[Q_PROJ]
    )
    assert len({tensor.file for tensor in checkpoint.tensors.values()}) == 2


@pytest.mark.parametrize("file", ["model-00001-of-00002.safetensors", "model.safetensors"])
def test_an_index_left_beside_the_single_file_does_not_count(directory: Path, file: str) -> None:
    """As for transformers; it names shards, or tensors, that are gone."""
    index = {"weight_map": {"model.old.weight": file}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    checkpoint = Checkpoint.open(directory)
    assert {tensor.file.name for tensor in checkpoint.tensors.values()} == {"model.safetensors"}


def test_tied_embeddings_serve_as_head(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, tiny_config(tie_word_embeddings=True)))
    np.testing.assert_array_equal(checkpoint.read("lm_head.weight"), checkpoint.read("text.embed_tokens.weight"))


def test_a_head_that_is_stored_counts_though_the_configuration_ties_it(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path, tiny_config(tie_word_embeddings=True))
    weights = random_weights(tiny_config())
    rewrite(directory, weights)
    np.testing.assert_array_equal(Checkpoint.open(directory).read("lm_head.weight"), weights["lm_head.weight"])
    rewrite(directory, {**weights, "lm_head.weight": weights["lm_head.weight"][:-1]})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight' has shape"):
        Checkpoint.open(directory)


def test_tensors_that_the_model_does_not_use_are_listed(directory: Path) -> None:
    weights = random_weights(tiny_config())
    rewrite(directory, {**weights, "mtp.fc.weight": np.zeros((2, 2), np.float32)})
    assert Checkpoint.open(directory).unused == ("mtp.fc.weight",)


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first = Checkpoint.open(write_checkpoint(tmp_path / "a")).fingerprint()
    assert Checkpoint.open(write_checkpoint(tmp_path / "b")).fingerprint() == first
    assert Checkpoint.open(write_checkpoint(tmp_path / "c", seed=1)).fingerprint() != first
    other = Checkpoint.open(write_checkpoint(tmp_path / "d", tiny_config({"rms_norm_eps": 1e-6})))
    assert other.fingerprint() != first


class TestBroken:
    def refused(self, directory: Path, *said: str) -> None:
        with pytest.raises(CheckpointError) as error:
            Checkpoint.open(directory)
        for words in said:
            assert words in str(error.value)

    def test_no_directory(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "nowhere", "nowhere", "does not exist")

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
    def test_a_missing_file(self, directory: Path, file: str) -> None:
        (directory / file).unlink()
        self.refused(directory, file)

    def test_pickled_weights_are_not_read(self, directory: Path) -> None:
        (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
        self.refused(directory, "pytorch_model.bin is not read", "safetensors")

    @pytest.mark.parametrize("keep", [0, 5, 100, -1, -5000])
    def test_a_truncated_file(self, directory: Path, keep: int) -> None:
        path = directory / "model.safetensors"
        path.write_bytes(path.read_bytes()[:keep])
        self.refused(directory, "model.safetensors", "truncated" if keep < 0 or keep > 8 else "bytes")

    def test_a_file_with_something_behind_it(self, directory: Path) -> None:
        path = directory / "model.safetensors"
        path.write_bytes(path.read_bytes() + b"more")
        self.refused(directory, "model.safetensors", "damaged")

    def test_a_git_lfs_pointer(self, directory: Path) -> None:
        (directory / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
        self.refused(directory, "Git LFS pointer")

    @pytest.mark.parametrize("header", [b"{{{{", b"[" * 100_000, b'{"a":' + b"1" * 5000 + b"}"])
    def test_a_header_that_is_no_json(self, directory: Path, header: bytes) -> None:
        (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        self.refused(directory, "model.safetensors", "cannot be read as safetensors")

    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, "takes 8 bytes; expected 12"),
            ({"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}, "unknown type 'F99'"),
            ({"dtype": "F32", "shape": [2]}, "damaged"),
            ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "damaged"),
            ({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, "damaged"),
            ("x", "damaged"),
            ({"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}, "damaged"),
            ({"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}, "damaged"),
            ({"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]}, "is missing"),  # sound, but no weight of ours
        ],
    )
    def test_a_mislabelled_entry(self, directory: Path, entry: object, said: str) -> None:
        header = json.dumps({"w": entry}).encode()
        (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        self.refused(directory, *(() if said == "is missing" else ("model.safetensors", "'w'")), said)

    def test_overlapping_tensors(self, directory: Path) -> None:
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        header = json.dumps({"a": entry, "b": entry}).encode()
        (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        self.refused(directory, "'b' starts at byte", "damaged")

    @pytest.mark.parametrize("name", ["lm_head.weight", Q_PROJ, "model.visual.merger.ln_q.weight"])
    def test_a_missing_tensor(self, directory: Path, name: str) -> None:
        weights = random_weights(tiny_config())
        del weights[name]
        rewrite(directory, weights)
        self.refused(directory, canonical_name(name), "is missing")

    @pytest.mark.parametrize(
        "name", [n for n in sorted(random_weights(tiny_config())) if not re.search(r"\.[1-9]\d*\.\D", n)]
    )
    def test_a_tensor_of_another_shape(self, directory: Path, name: str) -> None:
        weights = random_weights(tiny_config())
        shape = list(weights[name].shape)
        weights[name] = np.zeros((shape[0] + 1, *shape[1:]), np.float32)
        rewrite(directory, weights)
        self.refused(directory, "model.safetensors", f"'{name}'", str([shape[0] + 1, *shape[1:]]), f"expected {shape}")

    def test_a_tensor_of_another_type(self, directory: Path) -> None:
        config = ModelConfig.parse(tiny_config())
        header, data = {}, b""
        for name, shape in expected_shapes(config).items():
            raw = bytes(int(np.prod(shape)))
            header[name] = {"dtype": "I8", "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
        text = json.dumps(header).encode()
        (directory / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
        self.refused(directory, "is of type I8", "F32")

    def test_weights_of_another_configuration(self, directory: Path) -> None:
        (directory / "config.json").write_text(json.dumps(tiny_config({"num_key_value_heads": 4})))
        self.refused(directory, "k_proj", "[32, 64]", "[64, 64]")

    def test_one_tensor_under_two_names(self, directory: Path) -> None:
        weights = random_weights(tiny_config())
        rewrite(directory, {**weights, "language_model.lm_head.weight": weights["lm_head.weight"]})
        self.refused(directory, "both are 'lm_head.weight'")

    def test_a_missing_shard(self, directory: Path) -> None:
        split(directory)
        (directory / "model-00002-of-00002.safetensors").unlink()
        self.refused(directory, "model-00002-of-00002.safetensors is missing")

    def test_an_index_that_is_wrong_about_a_shard(self, directory: Path) -> None:
        place = split(directory)
        place[Q_PROJ] = next(file for file in place.values() if file != place[Q_PROJ])
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
        self.refused(directory, Q_PROJ, "is missing", place[Q_PROJ])

    @pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "no json"])
    def test_a_broken_index(self, directory: Path, content: str) -> None:
        (directory / "model.safetensors").unlink()
        (directory / "model.safetensors.index.json").write_text(content)
        self.refused(directory, "model.safetensors.index.json")

    @pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "a/b.safetensors", "weights.bin"])
    def test_an_index_that_leads_elsewhere(self, directory: Path, file: str) -> None:
        (directory / "model.safetensors").unlink()
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
        self.refused(directory, repr(file), "beside the index")
