"""Images, boxes, texts and latencies as a Rerun recording. Knows no rclpy; `rerun-sdk` is imported only here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import ExaoneError, require
from exaone_ros.tasks import Detection
from exaone_ros.view.annotate import colour_of

APPLICATION = "exaone_ros"


class RerunLog:
    """A recording that a Rerun viewer shows while it grows, or that is saved. One thread at a time.

    Entities: ``camera`` (image) and ``camera/boxes``, ``answers/<topic>`` (counts, decision, answer),
    ``latency/<name>`` in ms. The timeline ``stamp`` is that of the images: what was read from one stands at it.

    Args:
        save: file (.rrd) to write to; None opens a viewer window instead.

    Raises:
        MissingExtra: rerun-sdk is not installed.
        ExaoneError: no viewer can be started, or the file cannot be written.
    """

    def __init__(self, save: Path | None = None) -> None:
        self._rr: Any = require("rerun", "view")
        self._stream = self._rr.RecordingStream(APPLICATION)
        try:
            if save is None:
                self._stream.spawn(default_blueprint=self._blueprint())
            else:
                self._stream.save(str(save), default_blueprint=self._blueprint())
        except (OSError, RuntimeError) as error:
            where = "no Rerun viewer can be started here" if save is None else f"'{save}' cannot be written"
            raise ExaoneError(f"{where}: {error}; without a screen, save to a file") from error

    def image(self, stamp_ns: int, rgb: NDArray[np.uint8]) -> None:
        """A camera image, uint8 [H, W, 3]."""
        self._at(stamp_ns)
        self._stream.log("camera", self._rr.Image(rgb).compress(jpeg_quality=80))

    def jpeg(self, stamp_ns: int, data: bytes, media_type: str) -> None:
        """A camera image as it came, JPEG or PNG (``image/jpeg``, ``image/png``)."""
        self._at(stamp_ns)
        self._stream.log("camera", self._rr.EncodedImage(contents=data, media_type=media_type))

    def detections(self, stamp_ns: int, detections: Sequence[Detection]) -> None:
        """The boxes of an image; none takes those of the image before away."""
        self._at(stamp_ns)
        self._stream.log(
            "camera/boxes",
            self._rr.Boxes2D(
                array=[list(detection.box) for detection in detections] or np.empty((0, 4)),
                array_format=self._rr.Box2DFormat.XYXY,
                labels=[f"{detection.label} {detection.score:.2f}" for detection in detections],
                colors=[colour_of(detection.label) for detection in detections],
            ),
        )

    def text(self, stamp_ns: int, name: str, text: str) -> None:
        """What was answered in words or numbers, e.g. name ``decision``."""
        self._at(stamp_ns)
        self._stream.log(f"answers/{name}", self._rr.TextLog(text))

    def latencies(self, stamp_ns: int, milliseconds: Mapping[str, float]) -> None:
        """How long things took, by name."""
        self._at(stamp_ns)
        for name, value in milliseconds.items():
            self._stream.log(f"latency/{name}", self._rr.Scalars(value))

    def close(self) -> None:
        """Write what is still held."""
        self._stream.flush()
        self._stream.disconnect()

    def _at(self, stamp_ns: int) -> None:
        self._stream.set_time("stamp", timestamp=np.datetime64(stamp_ns, "ns"))

    def _blueprint(self) -> Any:
        views = self._rr.blueprint
        return views.Blueprint(
            views.Horizontal(
                views.Spatial2DView(origin="/camera", name="camera"),
                views.Vertical(
                    views.TextLogView(origin="/answers", name="answers"),
                    views.TimeSeriesView(origin="/latency", name="latency [ms]"),
                ),
                column_shares=[3, 2],
            )
        )
