"""The perception node answers through a server in another process, and names what happened when that has gone."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import onnxruntime  # noqa: F401  (the tests need it; without it they are not collected)
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("openai")

from peer import perceiving
from support.served import KEY, KEY_VARIABLE, Served

NODE = ("-m", "exaone_ros.nodes.perception")


def test_answers_come_from_the_server_until_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    served = Served()
    try:
        parameters = {"backend": "server", "server_url": served.url, "server_model": "tiny", "max_age_s": 600.0}
        with perceiving(tmp_path, command=NODE, **parameters) as pair:
            peer = pair.peer
            image = np.full((240, 320, 3), 170, np.uint8)
            image[100:160, 120:180] = (210, 30, 25)
            decision = peer.stream(image, lambda: peer.received["decision"], "a decision", every_s=1.0)[0]
            assert decision.choice in decision.options and decision.message == ""
            assert 0 < decision.probabilities[list(decision.options).index(decision.choice)] <= 1
            # Diagnostics come once a second, in no order with answers: the newest may be older than the model.
            hardware = f"tiny on {served.url}"
            peer.wait(lambda: peer.diagnostics().get("hardware") == hardware, f"diagnostics that name {hardware}")
            served.end(signal.SIGKILL)
            peer.stream(image, lambda: names_the_lost_server(peer.diagnostics(), served.url), "its name", every_s=0.5)
    finally:
        served.end(signal.SIGKILL)


def names_the_lost_server(seen: dict[str, str], url: str) -> bool:
    """Whether diagnostics say that the engine fails, and which server is why."""
    reason = seen.get("reason", "")
    return seen.get("state") == "engine_failed" and "ServerUnavailable" in reason and url in reason
