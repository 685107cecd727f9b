"""A node that is asked to end does so in order and in time, whatever it is at."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from peer import FAKE, PATIENCE_S, perceiving, red_box, running

SIGNALS = [signal.SIGINT, signal.SIGTERM]
OUT_OF_ORDER = "not ended in order"


@pytest.mark.parametrize("signal_number", SIGNALS)
def test_an_idle_node_ends(tmp_path: Path, signal_number: signal.Signals) -> None:
    with perceiving(tmp_path) as pair:
        pair.peer.warm_up()
        assert pair.process.end(signal_number) == 0
        assert f"ending: {signal_number.name}" in pair.process.output()
        assert OUT_OF_ORDER not in pair.process.output()


@pytest.mark.parametrize("signal_number", SIGNALS)
def test_a_node_ends_amid_an_answer(tmp_path: Path, signal_number: signal.Signals) -> None:
    with perceiving(tmp_path, "--delay-s", "600", max_age_s=3600.0) as pair:
        peer = pair.peer
        peer.stream(red_box(1, 1, 9, 9), lambda: "frames.fresh" in peer.diagnostics(), "a frame that is worked on")
        assert pair.process.end(signal_number) == 0
        assert OUT_OF_ORDER not in pair.process.output()


def test_a_node_ends_although_it_is_stuck_in_loading_its_model(tmp_path: Path) -> None:
    with perceiving(tmp_path, "--load-s", "600", "--end-within-s", "1.8") as pair:
        pair.peer.state_of_health("configuring")
        assert pair.process.end(signal.SIGTERM) == 0
        assert OUT_OF_ORDER in pair.process.output()


def test_a_node_that_was_not_configured_ends(tmp_path: Path) -> None:
    with perceiving(tmp_path, autostart=False) as pair:
        pair.peer.state_of_health("unconfigured")
        assert pair.process.end(signal.SIGINT) == 0
        assert OUT_OF_ORDER not in pair.process.output()


def test_a_place_for_logs_that_cannot_be_made_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc")
    for name in ("ROS_LOG_DIR", "ROS_HOME"):
        monkeypatch.delenv(name, raising=False)
    with running([FAKE, "--ros-args"], tmp_path / "log") as process:
        assert process.process.wait(PATIENCE_S) == 1
        said = process.output()
    assert "/proc/.ros/log" in said and "set ROS_LOG_DIR to a folder" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "reason"), [(("-p", "nonsense"), "'-p nonsense'"), (("--params-file", "no/such.yaml"), "no/such.yaml")]
)
def test_a_bad_command_line_ends_with_a_reason(tmp_path: Path, words: tuple[str, str], reason: str) -> None:
    with running([FAKE, "--ros-args", *words], tmp_path / "log") as process:
        assert process.process.wait(PATIENCE_S) == 1
        said = process.output()
    assert "error: failed to initialize rcl: Couldn't parse" in said and reason in said
    assert "Traceback" not in said and ".c:" not in said
