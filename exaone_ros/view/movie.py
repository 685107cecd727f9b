"""Write annotated frames as a video and a few of them as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import ExaoneError


def write_movie(
    directory: Path,
    count: int,
    frame: Callable[[int], NDArray[np.uint8]],
    rate_hz: float,
    pictures: int = 6,
    progress: Callable[[int], None] = lambda done: None,
) -> Sequence[Path]:
    """Write `annotated.mp4` (MPEG-4) and some evenly spaced `frame_*.png` into `directory`.

    Args:
        directory: exists already.
        count: number of frames, at least 1.
        frame: gives frame i as uint8 RGB [H, W, 3]; all of one size.
        rate_hz: frames per second of the video.
        pictures: how many PNGs at most.
        progress: called with the number of frames written.

    Returns:
        The files written.

    Raises:
        ExaoneError: OpenCV cannot encode the video here.
    """
    chosen = set(np.linspace(0, count - 1, min(pictures, count)).round().astype(int).tolist())
    files: list[Path] = []
    video = directory / "annotated.mp4"
    writer: cv2.VideoWriter | None = None
    try:
        for i in range(count):
            bgr = np.ascontiguousarray(frame(i)[..., ::-1])
            if writer is None:
                fourcc = cv2.VideoWriter.fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(video), fourcc, max(rate_hz, 1.0), (bgr.shape[1], bgr.shape[0]))
                if not writer.isOpened():
                    raise ExaoneError(f"OpenCV {cv2.__version__} cannot write MPEG-4 video to {video} on this machine")
            writer.write(bgr)
            if i in chosen:
                files.append(directory / f"frame_{i:04d}.png")
                cv2.imwrite(str(files[-1]), bgr)
            progress(i + 1)
    finally:
        if writer is not None:
            writer.release()
    return [video, *files]
