"""`make gpu-check`: what becomes of steps that fail, hang or crash, what is planned, and what a page says of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gpu_check
import gpu_setup
import gpu_table
import pytest
from gpu_check import REAL_SIZE, STEPS, main, run_step, status_of
from gpu_setup import GpuMachine
from provision.report import ProvisionError

DEVICE = {"step": "device", "ran": True, "ok": True, "name": "GPU X"}


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([("device", None), ("torch-cuda", None)], 0),
        ([("device", True), ("tensorrt-int4", None), ("torch-cuda", None)], 2),
        ([("device", True), ("tensorrt-int4", None), ("torch-cuda", True)], 0),
        ([("device", True), ("tensorrt-int4", False), ("torch-cuda", None)], 1),
    ],
)
def test_a_gpu_on_which_nothing_ran_is_not_a_success(
    steps: list[tuple[str, bool | None]], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step is True or False as it was right or wrong, None where it did not run."""
    found = [{"step": name, "ran": ok is not None, "ok": ok} for name, ok in [("onnxruntime-cpu", True), *steps]]
    assert status_of(found) == status
    assert ("pip install" in capsys.readouterr().err) == (status == 2)


def test_without_a_gpu_every_step_says_why_it_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "no_gpu", lambda: "no NVIDIA driver: none here")
    page = tmp_path / "benchmarks.md"
    page.write_text("# Page\n")
    assert main(["--docs", str(page)]) == 0
    found = lines_of(capsys)
    assert [line["step"] for line in found] == list(STEPS)
    assert all(line["ran"] is False and line["reason"] == "no NVIDIA driver: none here" for line in found)
    assert page.read_text() == "# Page\n"


def test_a_machine_is_asked_for_its_gpu_in_words() -> None:
    reason = gpu_check.no_gpu()
    assert reason is None or "NVIDIA driver" in reason


PROCESSES = {
    "prints": ('import sys; print(\'noise\'); print(\'{"step": "s", "ran": true, "ok": true}\')', None),
    "prints-before-it-dies": ('import sys; print(\'{"step": "s", "layers": 9}\'); sys.exit(4)', "ended with 4"),
    "is-cut-off": ('import os; print(\'{"step": "s", "la\', end="", flush=True); os.kill(os.getpid(), 9)', "SIGKILL"),
    "crashes": ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
    "exits": ("import sys; print('the last words', file=sys.stderr); sys.exit(3)", "ended with 3: the last words"),
    "raises": ("raise OSError('libnvinfer')", "OSError: libnvinfer"),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_whatever_becomes_of_a_step_is_a_line(name: str, tmp_path: Path) -> None:
    code, reason = PROCESSES[name]
    line = run_step("s", [sys.executable, "-c", code], {}, 60.0, tmp_path / "errors")
    assert line["step"] == "s" and line["ran"] is True and line["ok"] is (reason is None)
    assert reason is None or reason in line["reason"]


def test_a_step_that_hangs_is_ended(tmp_path: Path) -> None:
    """With the processes that it has started: they would hold its pipe for as long as they like."""
    code = "import subprocess, time; subprocess.Popen(['/bin/sleep', '600']); time.sleep(600)"
    line = run_step("s", [sys.executable, "-c", code], {}, 5.0, tmp_path / "errors")
    assert line["ok"] is False and "did not end within" in line["reason"]


STUB = """
import json, os, sys
step, layers = sys.argv[1], int(sys.argv[sys.argv.index("--layers") + 1].replace("fit", "12"))
if step == "real-size" and layers == 12:
    print(json.dumps({"step": step, "layers": layers}), flush=True)
    os.kill(os.getpid(), 9)
if step == "tensorrt-int4":
    os.abort()
line = {"step": step, "ran": True, "ok": True}
if step == "real-size":
    line |= {"layers": layers, "ok": layers < 6} | ({"times_ms": {}} if layers < 6 else {"reason": "out of memory"})
print(json.dumps(line))
"""


@pytest.fixture
def stubbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, on which the steps are a stub that crashes in one and runs out of memory in another."""
    (tmp_path / "gpu_steps.py").write_text(STUB)
    monkeypatch.setattr(gpu_check, "no_gpu", lambda: None)
    monkeypatch.setattr(gpu_check, "SCRIPTS", tmp_path)
    monkeypatch.setattr(gpu_setup, "prepare_gpu", lambda install: GpuMachine(Path(sys.executable), None, {"x": "why"}))


@pytest.mark.usefixtures("stubbed")
def test_a_step_that_fails_does_not_end_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "device", "tensorrt-int4", "torch-cuda"]) == 1
    setup, *found = lines_of(capsys)
    assert setup["step"] == "setup" and setup["missing"] == {"x": "why"}
    assert [line["ok"] for line in found] == [True, False, True]
    assert "killed by SIGABRT" in found[1]["reason"]


@pytest.mark.usefixtures("stubbed")
def test_the_real_size_is_tried_again_with_fewer_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", REAL_SIZE]) == 1
    found = lines_of(capsys)[1:]
    assert [line.get("layers") for line in found] == [12, 6, 3]
    assert "killed by SIGKILL" in found[0]["reason"] and found[1]["reason"] == "out of memory"
    assert main(["--only", REAL_SIZE, "--layers", "0"]) == 0
    assert lines_of(capsys)[1]["reason"] == "--layers 0"


def test_without_a_network_what_is_installed_is_used_and_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ProvisionError("'Installing' failed: no route to the package index\n  Full log: /x")

    monkeypatch.setattr(gpu_setup, "_make", lambda folder, report: None)
    monkeypatch.setattr(gpu_setup, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_setup, "_imports", lambda python, module: module == "tensorrt")
    monkeypatch.setattr(gpu_setup, "pip_install", refuse)
    machine = gpu_setup.prepare_gpu(folder=tmp_path / "env")
    assert machine.python == Path(sys.executable) and machine.folder is None
    assert machine.missing.keys() == {"system+runtime", "tensorrt-rtx", "reference", "onnxruntime-gpu"}
    assert "no route to the package index" in machine.missing["reference"]
    assert "Full log" not in machine.missing["reference"]
    assert gpu_setup._short("failed\n  ERROR: a\n  ERROR: no such wheel\n  Full log: /x") == "ERROR: no such wheel"
    assert gpu_setup.prepare_gpu(install=False, folder=tmp_path / "env").python == Path(sys.executable)


def test_steps_find_the_libraries_that_wheels_bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    for folder in ("nvidia/cuda_runtime/lib", "tensorrt_rtx_libs"):
        (packages / folder).mkdir(parents=True)
    (tmp_path / "onnxruntime-gpu").mkdir()
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    machine = GpuMachine(tmp_path / "bin" / "python", tmp_path, {})
    path = machine.variables("tensorrt-int4")["LD_LIBRARY_PATH"]
    assert path == f"{packages / 'nvidia/cuda_runtime/lib'}:{packages / 'tensorrt_rtx_libs'}"
    assert "PYTHONPATH" not in machine.variables("tensorrt-int4")
    assert machine.variables("onnxruntime-cuda")["PYTHONPATH"] == str(tmp_path / "onnxruntime-gpu")


MEASURED = {
    "step": REAL_SIZE, "ran": True, "ok": True, "layers": 8, "vision_blocks": 28, "precision": "fp8-bfloat16",
    "library": "tensorrt 10.16", "preset": "h100", "device_mb": 9000, "device_expected_mb": 9500,
    "times_ms": {"image": 20.0, "prompt": 15.5, "decode_step": 2.5},
    "expected_ms": {"image": 10.0, "prompt": 10.0, "decode_step": 1.6},
    "times_roofline": {"image": 2.0, "prompt": 1.55, "decode_step": 1.56},
}  # fmt: skip


def test_results_stand_at_the_end_of_a_page_once_for_each_device(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nOn the CPU.\n")
    right = {"step": "tensorrt-int4", "ran": True, "ok": True, "largest_error": 0.0123, "build_s": 3.5}
    wrong = {"step": "torch-cuda", "ran": True, "ok": False, "reason": "killed by SIGSEGV"}
    absent = {"step": "tensorrt_rtx-fp8", "ran": False, "ok": None, "reason": "TensorRT is\nnot installed"}
    gpu_table.write_section(page, [DEVICE, wrong])
    gpu_table.write_section(page, [{**DEVICE, "name": "GPU Y"}, right])
    gpu_table.write_section(page, [DEVICE, right, wrong, absent, MEASURED])
    text = page.read_text()
    assert text.startswith("# Benchmarks\n\nOn the CPU.\n\n<!-- gpu-check: GPU Y -->")
    assert text.count("## On GPU X") == text.count("## On GPU Y") == 1
    assert "| tensorrt-int4 | right | 0.0123 |" in text and "| 3.5 s |" in text
    assert "| torch-cuda | **wrong** |" in text and "- torch-cuda: killed by SIGSEGV" in text
    assert "- tensorrt_rtx-fp8: TensorRT is not installed" in text
    assert "8 layers of the real size" in text and "| decode step | 2.5 | 1.6 | 1.56 |" in text


def test_the_benchmarks_of_a_cpu_leave_the_sections_of_gpus(tmp_path: Path) -> None:
    from exaone_ros.bench.kept import gpu_sections

    page = tmp_path / "benchmarks.md"
    assert gpu_sections(page) == ""
    page.write_text("# Benchmarks\n")
    assert gpu_sections(page) == ""
    gpu_table.write_section(page, [DEVICE, MEASURED])
    assert "# Benchmarks\n" + gpu_sections(page) == page.read_text()
