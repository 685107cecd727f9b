"""`exaone compile` and `exaone doctor`: what they print, and with which status they end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from engine.tensorrt.fake_cuda import FakeCuda
from engine.tensorrt.fake_tensorrt import fake_library
from model.tiny_checkpoint import write_checkpoint

from exaone_ros.cli import doctor
from exaone_ros.cli.doctor import Finding, Verdict
from exaone_ros.cli.main import main
from exaone_ros.engine.presets import fitting_presets, preset, preset_names
from exaone_ros.engine.tensorrt import compile as compiling
from exaone_ros.engine.tensorrt import cuda, versions
from exaone_ros.engine.tensorrt.cuda import Device
from exaone_ros.errors import EngineError
from exaone_ros.model.chat import PromptEncoder
from exaone_ros.model.config import ModelConfig

BUNDLED = Path(__file__).parents[2] / "models" / "exaone4_5-tabletop-tiny"

REAL = {
    "model_type": "exaone4_5",
    "text_config": {
        "model_type": "exaone4", "vocab_size": 153600, "hidden_size": 5120, "intermediate_size": 27392,
        "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
        "sliding_window": 4096, "max_position_embeddings": 262144,
    },
    "vision_config": {
        "model_type": "exaone4_5_vision", "depth": 28, "hidden_size": 2048, "intermediate_size": 5120, "num_heads": 32,
        "num_key_value_heads": 8, "out_hidden_size": 5120, "fullatt_block_indexes": [6, 13, 20, 27], "patch_size": 14,
        "window_size": 112,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in preset_names() if name != "default"])
def test_the_real_model_fits_the_machine_of_its_preset(name: str) -> None:
    chosen = preset(name)
    need = chosen.memory(ModelConfig.parse(REAL))
    assert need.device < 0.9 * chosen.device_gb * 1e9
    assert need.decoder_weights > 16e9, "33 billion parameters do not get smaller than half a byte each"


def test_presets_of_a_device_come_most_accurate_first() -> None:
    names = [chosen.name for chosen in fitting_presets(ModelConfig.parse(REAL), 80_000_000_000)]
    assert names.index("h100") < names.index("rtx-32")
    assert not fitting_presets(ModelConfig.parse(REAL), 16_000_000_000)


def test_the_command_line_overrides_a_preset() -> None:
    changed = preset("orin-64").replaced(precision="float16", slots=2)
    assert (changed.precision.name, changed.capacity.slots, changed.capacity.context) == ("float16", 2, 2048)
    assert changed.capacity_for(256).context == changed.capacity_for(256).chunk == 256


def test_unknown_names_are_refused() -> None:
    with pytest.raises(EngineError, match=r"preset is 'tpu'; expected one of default, orin-64"):
        preset("tpu")
    with pytest.raises(EngineError, match="precision is 'int3'"):
        preset("default").replaced(precision="int3")


def test_no_tensorrt_is_one_line_and_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "MODULES", {"tensorrt": ("no_such_trt",), "tensorrt_rtx": ("no_such_rtx",)})
    assert main(["compile", str(write_checkpoint(tmp_path))]) == 1
    error = capsys.readouterr().err
    assert error.startswith("exaone compile: TensorRT is not installed: pip install") and error.count("\n") == 1


def test_a_missing_checkpoint_is_one_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_calibration_frames_that_are_none_are_one_line_and_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "load_library", lambda names: fake_library(FakeCuda(), "1.7.1.116", "tensorrt_rtx"))
    command = ["compile", str(write_checkpoint(tmp_path / "c")), "--cache", str(tmp_path / "e"), "--precision", "int4"]
    assert main([*command, "--calibrate", str(tmp_path / "none")]) == 1
    assert "holds no calibration frames; expected a folder of images" in capsys.readouterr().err


def test_the_doctor_looks_at_a_whole_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptEncoder, "open", lambda *_: None)  # random weights have no tokenizer
    directory = write_checkpoint(tmp_path)
    (directory / "tokenizer.json").write_text("{}")
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": "x"}))
    assert main(["doctor", str(directory), "--cache", str(tmp_path)]) == 0
    report = capsys.readouterr().out
    for what in ("ROS 2", "GPU", "TensorRT", "memory", "disk", "checkpoint", "orin-64", "[computed]", "install: "):
        assert what in report
    assert report.startswith("ok: in order") and "nothing broken, " in report
    assert "KV caches" in report and "pictures" in report and "pinned" in report, "memory by its purpose"
    assert "no MTP layer" in report


def test_every_failure_of_a_checkpoint_has_a_remedy(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path)
    found = [finding for finding in doctor.checkpoint(directory) if finding.verdict is Verdict.BAD]
    assert [finding.what for finding in found] == ["tokenizer.json", "chat_template.jinja"]
    (directory / "tokenizer_config.json").write_bytes(b"\xff")  # no text at all
    assert [f.what for f in doctor.checkpoint(directory) if f.verdict is Verdict.BAD][1:] == ["chat_template.jinja"]
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    found = list(doctor.checkpoint(directory))
    assert [finding.verdict for finding in found] == [Verdict.BAD] and "truncated" in found[0].found
    assert all(finding.remedy for finding in found)


def test_the_doctor_tries_tokenizer_and_template(tmp_path: Path) -> None:
    for file in BUNDLED.iterdir():
        shutil.copy(file, tmp_path / file.name)

    def prompts() -> Finding:
        return next(finding for finding in doctor.checkpoint(tmp_path) if finding.what == "prompts")

    assert prompts().verdict is Verdict.GOOD
    (tmp_path / "chat_template.jinja").write_text("{{ 1 / 0 }}")
    assert prompts().verdict is Verdict.BAD and "chat_template.jinja: the chat template fails" in prompts().found
    (tmp_path / "tokenizer.json").write_text("{")
    assert prompts().verdict is Verdict.BAD and "tokenizer.json cannot be read" in prompts().found


@pytest.mark.parametrize("place", ["chat_template.json", "tokenizer_config.json"])
def test_the_doctor_finds_the_template_in_older_places(tmp_path: Path, place: str) -> None:
    for file in BUNDLED.iterdir():
        shutil.copy(file, tmp_path / file.name)
    template, other = tmp_path / "chat_template.jinja", tmp_path / place
    known = json.loads(other.read_text()) if other.is_file() else {}
    other.write_text(json.dumps({**known, "chat_template": template.read_text()}))
    template.unlink()
    verdicts = {finding.what: finding.verdict for finding in doctor.checkpoint(tmp_path)}
    assert verdicts["prompts"] is Verdict.GOOD and template.name not in verdicts


def test_nothing_is_amiss_without_a_remedy(tmp_path: Path) -> None:
    findings = [*doctor.machine(tmp_path), *doctor.checkpoint(write_checkpoint(tmp_path / "c"), tmp_path)]
    assert all(finding.remedy for finding in findings if finding.verdict is not Verdict.GOOD)
    assert {"fits here"} <= {finding.what for finding in findings}


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = next(finding for finding in doctor.machine(tmp_path / "file" / "engines") if finding.what == "disk")
    assert found.verdict is Verdict.BAD and found.found == f"{tmp_path / 'file'} cannot be written"


class Gpu:
    """In place of libcudart: an Orin, or what a test makes of it."""

    total_bytes = 64_000_000_000

    def device(self) -> Device:
        return Device("Orin", (8, 7), self.total_bytes, self.total_bytes)


def test_the_doctor_says_what_fits_and_what_building_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig.parse(REAL)
    monkeypatch.setattr(cuda, "CudaRuntime", Gpu)
    monkeypatch.setattr(compiling, "free_memory", lambda: 200_000_000_000)
    monkeypatch.setattr(compiling.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000_000_000))
    fits, building = doctor._here(config, tmp_path)
    assert "orin-64" in fits.found and "h100" not in fits.found and "on Orin" in fits.found
    assert "GB of main memory: exaone compile --preset " in building.found
    monkeypatch.setattr(compiling, "free_memory", lambda: 1_000_000_000)
    _, building = doctor._here(config, tmp_path)
    assert building.verdict is Verdict.NOTE and "main memory: 1.0 GB free, but the build needs" in building.found
    monkeypatch.setattr(Gpu, "total_bytes", 8_000_000_000)
    (fits,) = doctor._here(config, tmp_path)
    assert fits.verdict is Verdict.NOTE and "no preset on Orin" in fits.found and "int4" in fits.remedy


def test_expected_speeds_are_those_of_the_roofline() -> None:
    """By hand for 31.8 billion parameters of the layers and 1.2 billion of the encoder."""
    config = ModelConfig.parse(REAL)
    orin, h100 = preset("orin-64").speed(config), preset("h100").speed(config)
    layers = 64 * (2 * 5120 * 5120 + 2 * 5120 * 1024 + 3 * 5120 * 27392)
    assert orin.prompt_s == pytest.approx(2 * 500 * layers / (0.5 * 42.5e12), rel=1e-6)
    assert orin.token_s == pytest.approx((layers * 0.516 + 153600 * 5120 * 2) / (0.75 * 204e9), rel=0.01)
    assert 0.005 < h100.image_s < 0.02 and h100.token_s < orin.token_s / 5
    assert "a token" in str(orin) and "ms" in str(orin)


def test_a_broken_checkpoint_ends_with_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 1
    assert "config.json is missing" in capsys.readouterr().out
