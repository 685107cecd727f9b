"""Real processes that fail: each trouble gets its name on `status`, passes by itself, and is told once."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from peer import PATIENCE_S, Peer, perceiving, running

from exaone_interfaces.msg import Status

CAMERA = str(Path(__file__).with_name("camera_process.py"))


def seen(peer: Peer, state: str, after: int = 0) -> int:
    """Wait for a status with this state behind the first `after` ones; how many there were then."""

    def found() -> int | None:
        states = [status.state for status in peer.received["status"]]
        return next((index + 1 for index in range(after, len(states)) if states[index] == state), None)

    return peer.wait(found, f"the state {state}")


def test_a_camera_that_is_killed_is_noticed_and_its_return_too(tmp_path: Path) -> None:
    with perceiving(tmp_path, camera_timeout_s=2.0, max_age_s=30.0) as pair:
        peer = pair.peer
        peer.listen(Status, "status")
        number = 0
        for _ in range(2):
            with running((CAMERA, peer.namespace), tmp_path / "camera.log") as camera:
                number = seen(peer, "ok", number)
                camera.end(signal.SIGKILL)
                number = seen(peer, "stale_camera", number)
        last = peer.received["status"][number - 1]
        assert last.reason and last.cameras[0].state == "stale_camera" and last.cameras[0].age > 2.0
        states = [status.state for status in peer.received["status"]]
        changes = sum(now == "stale_camera" != before for before, now in itertools.pairwise(states))
        # Not for each second. One may have been told before we listened, and one is perhaps on its way to us.
        assert 2 <= changes <= pair.process.output().count("-> stale_camera") <= changes + 2


def test_an_engine_that_fails_is_opened_anew_and_told_once(tmp_path: Path) -> None:
    with perceiving(tmp_path, "--dies-after", "3", camera_timeout_s=60.0, max_age_s=30.0) as pair:
        peer = pair.peer
        peer.listen(Status, "status")
        with running((CAMERA, peer.namespace), tmp_path / "camera.log"):
            number = seen(peer, "engine_failed")
            failed = peer.received["status"][number - 1]
            assert "told to fail" in failed.reason and failed.stamp.sec > 0
            number = seen(peer, "ok", number)
            assert peer.received["status"][number - 1].engine_restarts == 1
            peer.received.clear()
            peer.wait(lambda: peer.received["decision"], "a decision of the new engine")
        log = pair.process.output()
        assert log.count("\nopening\n") + log.startswith("opening\n") == 2  # opened twice
        for words in ("the engine failed, tried again", "opening the engine anew", "the engine was opened anew"):
            assert log.count(words) == 1, words


def test_an_engine_that_hangs_is_named_or_ends_the_process(tmp_path: Path) -> None:
    with perceiving(tmp_path, "--hangs", camera_timeout_s=60.0, max_age_s=30.0) as pair:
        peer = pair.peer
        peer.listen(Status, "status")
        with running((CAMERA, peer.namespace), tmp_path / "camera.log"):
            number = seen(peer, "engine_failed")
            assert "has not returned" in peer.received["status"][number - 1].reason
            seen(peer, "engine_failed", number)
            assert pair.process.process.poll() is None
            assert peer.set_parameter("end_on_hang", True)[0]
            assert peer.transition("deactivate") and peer.transition("cleanup")
            assert peer.transition("configure") and peer.transition("activate")
            assert pair.process.process.wait(PATIENCE_S) == 1
        assert "the engine hangs" in pair.process.output()


def test_the_heart_beats_before_the_node_is_configured(tmp_path: Path) -> None:
    with perceiving(tmp_path, autostart=False) as pair:
        peer = pair.peer
        peer.listen(Status, "status")
        number = seen(peer, "unconfigured")
        assert peer.transition("configure")
        number = seen(peer, "inactive", number)
        assert peer.transition("activate")
        seen(peer, "starting", number)
