"""What the perception node tells of its settings."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rclpy")

from exaone_ros.engine.server_settings import public_address
from exaone_ros.ros.engine_opener import open_engine
from exaone_ros.ros.perception_settings import PARAMETERS, Settings


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("https://me:secret@brain/v1?key=secret#secret", "https://brain/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://secret@[broken", "server"),
    ],
)
def test_an_address_is_told_without_what_is_secret(url: str, told: str) -> None:
    assert public_address(url) == told


def test_what_the_parameters_say_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def opened(*_arguments: object, **named: Any) -> None:
        given.update(named)

    monkeypatch.setattr("exaone_ros.engine.engine.Engine.open", opened)
    monkeypatch.setattr("exaone_ros.engine.service.EngineService", lambda engine, **_named: engine)
    values = {parameter.name: parameter.default for parameter in PARAMETERS}
    open_engine(Settings.from_values(values | {"visual_tokens": 300, "context": 700}))
    assert (given["visual_tokens"], given["context"]) == (300, 700)


def test_who_computes_is_named() -> None:
    values = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert Settings.from_values(values).computed_by == "exaone4_5-tabletop-tiny on onnxruntime (cpu)"
    values |= {"backend": "server", "server_model": "big", "server_url": "http://me:secret@brain:8000/v1"}
    assert Settings.from_values(values).computed_by == "big on http://brain:8000/v1"
