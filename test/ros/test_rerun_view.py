"""The Rerun view: what is saved holds the camera, the boxes, the texts and the latencies."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from companion_peer import answer, counts, decision, detections, header

from exaone_ros.errors import MissingExtra
from exaone_ros.nodes import rerun_view
from exaone_ros.nodes.rerun_view import RerunView
from exaone_ros.ros.annotated import jpeg_message
from exaone_ros.ros.image import rgb_to_image
from exaone_ros.ros.parameters import ParameterError
from exaone_ros.view.rerun_log import RerunLog


def test_without_rerun_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingExtra, match="view"):
        RerunLog(tmp_path / "run.rrd")


class LogDouble:
    """Notes what it is told, where rerun-sdk is not installed."""

    def __init__(self, _save: Path | None) -> None:
        self.texts: dict[str, str] = {}
        self.times: dict[str, float] = {}

    def text(self, _stamp_ns: int, name: str, text: str) -> None:
        self.texts[name] = text

    def latencies(self, _stamp_ns: int, milliseconds: dict[str, float]) -> None:
        self.times |= milliseconds

    def close(self) -> None:
        pass


def test_answers_are_told_in_words(context: rclpy.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun_view, "RerunLog", LogDouble)
    node = RerunView(context=context)
    log = node._log
    node._on_counts(counts(1, 3))
    node._on_decision(decision(1, "clear"))
    node._on_answer(answer(1, "A red cube."))
    assert log.texts["counts"] == "all: 3" and "clear" in log.texts["decision"]
    assert log.texts["answer"] == "What is on the table? A red cube." and "answer/age" in log.times
    node._on_answer(answer(2, ""))
    assert log.texts["answer"].endswith("no answer")
    node.end()
    node.destroy_node()


def test_a_wrong_override_of_qos_is_refused(context: rclpy.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun_view, "RerunLog", LogDouble)
    override = rclpy.Parameter("qos_overrides./detection.subscription.depth", value=3)
    with pytest.raises(ParameterError, match=r"/detections\.subscription"):
        RerunView(context=context, parameter_overrides=[override])


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_run_is_saved(tmp_path: Path, transport: str) -> None:
    pytest.importorskip("rerun")
    context = rclpy.Context()
    rclpy.init(context=context)
    overrides = [
        rclpy.Parameter("save", value=str(tmp_path / "run.rrd")),
        rclpy.Parameter("image_transport", value=transport),
    ]
    node = RerunView(context=context, parameter_overrides=overrides)
    stamp_ns = time.time_ns()
    image = np.full((48, 64, 3), 90, np.uint8)
    if transport == "raw":
        node._on_image(rgb_to_image(image, header(stamp_ns)))
    else:
        node._on_compressed(jpeg_message(image, header(stamp_ns), 80))
    node._on_detections(detections(stamp_ns, ("mug", (1.0, 2.0, 30.0, 40.0))))
    node._on_detections(detections(stamp_ns + 1))
    node._on_counts(counts(stamp_ns, 1))
    node._on_decision(decision(stamp_ns, "clear"))
    node._on_answer(answer(stamp_ns, "A red cube."))
    node.end()
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    command = [sys.executable, "-m", "rerun", "rrd", "print", str(tmp_path / "run.rrd")]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    for entity in (
        "/camera", "/camera/boxes", "/answers/counts", "/answers/decision", "/answers/answer",
        "/latency/decision/engine",
    ):  # fmt: skip
        assert entity in printed
