"""One camera's side of the perception node: which of its images may be answered, and the newest of them.

Knows no rclpy; what the engine calls a picture is made here, once for each frame, whoever asks about it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.engine.request import Picture
from exaone_ros.ros.freshness import Freshness, StampGate
from exaone_ros.ros.meter import Meter
from exaone_ros.ros.once import OnceLog

FRAMES_KEPT = 8
"""Frames in which images of other cameras taken at the same time are looked for."""


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """An image message as it came.

    Attributes:
        message: sensor_msgs Image or CompressedImage.
        stamp_ns: of its header.
        frame_id: of its header.
        epoch: how often the clock had gone back when it came; stamps of different epochs cannot be compared.
    """

    message: Any
    stamp_ns: int
    frame_id: str
    epoch: int = 0


class Camera:
    """The frames of one camera. `offer` is called by the subscription's thread, the rest by the worker's.

    Args:
        name: as tasks name it; empty for the only camera of a node that names none.
        read: turns an image message into uint8 RGB [H, W, 3] or raises ImageError.
        freshness: the rule of the moment.
        now_ns: the node's clock, which may be a simulator's.
        meter: told what happens to this camera's frames.
        log: told once of each kind of trouble.
        kept: frames that `recent` gives; 1 where there is no other camera to be synchronous with.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[Any], NDArray[np.uint8]],
        freshness: Callable[[], Freshness],
        now_ns: Callable[[], int],
        meter: Meter,
        log: OnceLog,
        kept: int = 1,
    ) -> None:
        self.name, self.meter, self.log = name, meter, log
        self.on_fresh: Callable[[], None] = lambda: None
        """Called in the subscription's thread when a frame has come that may be answered."""
        self._read, self._freshness, self._now_ns = read, freshness, now_ns
        self._gate = StampGate()
        self._lock = threading.Lock()
        self._waiting: CameraFrame | None = None
        self._recent: deque[CameraFrame] = deque(maxlen=kept)
        self._picture: tuple[CameraFrame, Picture] | None = None

    @property
    def label(self) -> str:
        """For messages: ``camera 'wrist'``."""
        return f"camera '{self.name}'" if self.name else "the camera"

    @property
    def epoch(self) -> int:
        """How often the clock has gone back."""
        return self._gate.restarts

    def offer(self, message: Any, stamp_ns: int, frame_id: str) -> None:
        """Take note of an image that has arrived, and judge its stamp."""
        now_ns = self._now_ns()
        self.meter.count("frames.received")
        restarts = self._gate.restarts
        refusal = self._gate.refusal(stamp_ns, now_ns, self._freshness())
        if self._gate.restarts > restarts:
            self.meter.count("clock.restarts")
            self.log.info(f"{self.label}: the clock went back: stamps and rates begin anew")
            with self._lock:
                self._waiting = None
                self._recent.clear()
        if refusal is not None:
            self.drop(refusal, f"images are not answered: {refusal} (stamp {stamp_ns} ns, now {now_ns} ns)")
            return
        self.meter.count("frames.fresh")
        self.meter.sample("age.arrival_s", (now_ns - stamp_ns) * 1e-9)
        frame = CameraFrame(message, stamp_ns, frame_id, self._gate.restarts)
        with self._lock:
            replaced = self._waiting is not None
            self._waiting = frame
            self._recent.append(frame)
        if replaced:
            self.meter.count("dropped.replaced")
        self.on_fresh()

    @property
    def waiting(self) -> CameraFrame | None:
        """The newest frame, if no task has been asked about it yet."""
        return self._waiting

    def take(self, frame: CameraFrame) -> None:
        """The frame that waited is being seen to; a newer one that came meanwhile goes on waiting."""
        with self._lock:
            if self._waiting is frame:
                self._waiting = None

    def recent(self) -> list[CameraFrame]:
        """The newest frames that are fresh still, oldest first: neither too old, nor of before the clock went back."""
        rule, now_ns = self._freshness(), self._now_ns()
        with self._lock:
            frames = list(self._recent)
        return [
            frame
            for frame in frames
            if not rule.too_old(frame.stamp_ns, now_ns) and not rule.ahead(frame.stamp_ns, now_ns)
        ]

    def picture(self, frame: CameraFrame) -> Picture:
        """What the engine is shown: converted once, and the same object for all who ask about this frame.

        Raises:
            ImageError: the image cannot be read.
        """
        if self._picture is None or self._picture[0] is not frame:
            self._picture = (frame, Picture(self._read(frame.message)))
        return self._picture[1]

    def drop(self, reason: str, message: str) -> None:
        """Count a frame, or an answer, that comes to nothing."""
        self.meter.count(f"dropped.{reason}")
        self.log.warning(
            f"{self.name}.dropped.{reason}", f"{self.label}: {message}; counted in diagnostics from now on"
        )

    def bad(self, reason: str, error: Exception) -> None:
        """Count a frame that cannot be read."""
        self.meter.count(f"bad.{reason}")
        prefix = f"{self.label}: " if self.name else ""
        self.log.warning(
            f"{self.name}.bad.{reason}", f"{prefix}bad image ({reason}): {error}; counted in diagnostics from now on"
        )
