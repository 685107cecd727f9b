"""The exit status of `make gpu-check`."""

from __future__ import annotations

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

import gpu_check

CPU, GPU = ("onnxruntime-cpu", True), ("device", True)


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([CPU, ("device", None), ("torch-cuda", None)], 0),
        ([CPU, GPU, ("tensorrt-int4", None), ("torch-cuda", None)], 2),
        ([CPU, GPU, ("tensorrt-int4", None), ("torch-cuda", True)], 0),
        ([CPU, GPU, ("tensorrt-int4", False), ("torch-cuda", None)], 1),
    ],
)
def test_a_gpu_on_which_nothing_ran_is_not_a_success(
    steps: list[tuple[str, bool | None]], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step is True or False as it was right or wrong, None where it did not run."""
    check = gpu_check.Check.__new__(gpu_check.Check)
    check.wrong, check.device, check.on_gpu = 0, False, 0
    for step, ok in steps:
        check.say(step, ran=ok is not None, ok=ok)
    assert check.status() == status
    assert ("pip install" in capsys.readouterr().err) == (status == 2)
