"""Camera images of an episode as MP4, with the statistics that LeRobot keeps of them."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.statistics import Statistics
from exaone_ros.errors import DatasetError, require

CODECS = {
    "h264": ("libx264", {"preset": "veryfast", "crf": "23", "g": "2", "bf": "0"}),
    "av1": ("libsvtav1", {"preset": "12", "crf": "30", "g": "2"}),
}
"""Encoder and options. A key frame every 2 frames, as LeRobot does: training reads frames in random order."""

STATISTICS_EVERY = 5
STATISTICS_SIDE_PX = 64


def _av() -> ModuleType:
    return require("av", "record")


def check_format(height: int, width: int, codec: str) -> None:
    """Refuse what cannot be encoded.

    Raises:
        DatasetError: an odd size, or a codec that is unknown or not there.
        MissingExtra: PyAV is not installed.
    """
    if codec not in CODECS:
        raise DatasetError(f"video codec is {codec!r}; expected one of {sorted(CODECS)}")
    if height % 2 or width % 2 or height < 2 or width < 2:
        raise DatasetError(f"video frames are {width}x{height} px; both must be even: crop or resize the images")
    if CODECS[codec][0] not in _av().codecs_available:
        raise DatasetError(f"PyAV here has no encoder '{CODECS[codec][0]}'; choose another of {sorted(CODECS)}")


class VideoEncoder:
    """Writes one video; frames are encoded as they come, so that memory does not grow.

    Args:
        path: of the MP4; written anew.
        height, width: of every frame, even numbers (4:2:0 subsampling).
        fps: frames per second.
        codec: one of CODECS.

    Raises:
        DatasetError: an odd size, or a codec that is not there.
        MissingExtra: PyAV is not installed.
    """

    def __init__(self, path: Path, height: int, width: int, fps: float, codec: str = "h264") -> None:
        check_format(height, width, codec)
        av = _av()
        name, options = CODECS[codec]
        self.path, self.height, self.width, self.fps, self.codec = path, height, width, fps, codec
        self.frames = 0
        self._samples: list[NDArray[np.uint8]] = []
        try:
            self._container = av.open(str(path), "w", format="mp4")
        except (OSError, av.error.FFmpegError) as error:
            raise DatasetError(f"video {path} cannot be written: {error}") from error
        self._stream = self._container.add_stream(name, rate=Fraction(fps).limit_denominator(1000), options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.thread_count = 1  # recording runs beside perception and control

    def add(self, image: NDArray[np.uint8]) -> None:
        """Encode one frame, uint8 RGB [H, W, 3].

        Raises:
            DatasetError: of another size than the video, or it cannot be written, e.g. on a full disk.
        """
        if image.shape != (self.height, self.width, 3):
            expected = [self.height, self.width, 3]
            raise DatasetError(f"video frame {self.frames} is {list(image.shape)}; expected {expected} as before")
        if self.frames % STATISTICS_EVERY == 0:
            step = max(1, min(self.height, self.width) // STATISTICS_SIDE_PX)
            self._samples.append(image[::step, ::step].copy())
        frame = _av().VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self.frames
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, _av().error.FFmpegError) as error:
            raise DatasetError(f"video {self.path} cannot be written: {error}") from error
        self.frames += 1

    def close(self) -> None:
        """Finish the file; may be called twice.

        Raises:
            DatasetError: it cannot be written, e.g. on a full disk.
        """
        container, self._container = self._container, None
        if container is None:
            return
        failures = (OSError, _av().error.FFmpegError)
        try:
            for packet in self._stream.encode():
                container.mux(packet)
            container.close()
        except failures as error:
            with suppress(*failures):
                container.close()  # gives the file back
            raise DatasetError(f"video {self.path} cannot be written: {error}") from error

    def abandon(self) -> None:
        """End without caring whether the file is whole; may be called twice."""
        with suppress(DatasetError):
            self.close()

    def info(self) -> dict[str, Any]:
        """LeRobot's ``info`` of a video feature."""
        return {
            "video.height": self.height,
            "video.width": self.width,
            "video.codec": self.codec,
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": int(self.fps) if float(self.fps).is_integer() else self.fps,
            "video.channels": 3,
            "has_audio": False,
        }

    def statistics(self) -> dict[str, Any]:
        """Of the three channels in 0..1 over sampled frames, in LeRobot's shape [3, 1, 1]; count is that of samples."""
        pixels = np.concatenate([sample.reshape(-1, 3) for sample in self._samples])
        entry = Statistics.of(pixels / 255.0).to_json()
        shaped = {key: np.reshape(value, (3, 1, 1)).tolist() for key, value in entry.items() if key != "count"}
        return {**shaped, "count": [len(self._samples)]}


def decode(path: Path, first: int = 0, count: int | None = None) -> NDArray[np.uint8]:
    """Frames of a video, uint8 RGB [N, H, W, 3].

    Raises:
        DatasetError: the video is missing or damaged, or shorter than asked.
    """
    av = _av()
    frames = []
    try:
        with av.open(str(path)) as container:
            for i, frame in enumerate(container.decode(video=0)):
                if i >= first:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if count is not None and len(frames) == count:
                    break
    except (OSError, av.error.FFmpegError) as error:
        raise DatasetError(f"video {path} cannot be read: {error}") from error
    if not frames or (count is not None and len(frames) < count):
        raise DatasetError(
            f"video {path} has {first + len(frames)} frames; frames up to {first + (count or 1)} were asked"
        )
    return np.stack(frames)
