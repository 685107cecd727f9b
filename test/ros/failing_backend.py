"""The perception node with the real engine, whose first backend breaks after two looks, like a device that is lost."""

from __future__ import annotations

from typing import Any

from exaone_ros.nodes.perception import Perception, open_engine
from exaone_ros.ros.perception_settings import Settings
from exaone_ros.ros.spin import run_node

LOOKS = 2
opened = 0


def open_failing(settings: Settings) -> Any:
    global opened
    service = open_engine(settings)
    opened += 1
    if opened == 1:
        backend = service.engine.backend
        encode, looks = backend.encode, 0

        def broken(*arguments: Any) -> Any:
            raise RuntimeError("the device was lost")

        def encode_some(image: Any) -> Any:
            nonlocal looks
            looks += 1
            if looks <= LOOKS:
                return encode(image)
            backend.run = broken
            return broken()

        backend.encode = encode_some
    return service


run_node(lambda: Perception(open_failing))
