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
            assert peer.diagnostics()["hardware"] == f"tiny on {served.url}"
            served.end(signal.SIGKILL)
            named = peer.stream(
                image,
                lambda: d if "ServerUnavailable" in (d := peer.diagnostics()).get("reason", "") else None,
                "a state that names the server",
                every_s=0.5,
            )
            assert named["state"] == "engine_failed" and served.url in named["reason"]
    finally:
        served.end(signal.SIGKILL)
