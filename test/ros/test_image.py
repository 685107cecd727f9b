"""Image messages of the installed ROS: there and back, without walking through them byte by byte."""

from __future__ import annotations

import array
import sys
import types
from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from exaone_ros.errors import ImageError, MissingExtra
from exaone_ros.ros import bridge
from exaone_ros.ros.image import compressed_image_to_rgb, image_to_depth_m, image_to_rgb, rgb_to_image
from exaone_ros.ros.pixels import UnusableImage, pixels_to_rgb


def picture(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_there_and_back() -> None:
    rgb = picture()
    message = rgb_to_image(rgb, Header(frame_id="camera"))
    assert (message.height, message.width, message.step, message.encoding) == (5, 7, 21, "rgb8")
    assert message.header.frame_id == "camera" and isinstance(message.data, array.array)
    np.testing.assert_array_equal(image_to_rgb(message), rgb)


def test_a_cut_out_of_a_picture_is_sent_as_it_looks() -> None:
    rgb = picture(8, 8)[2:6, 1:4]
    np.testing.assert_array_equal(image_to_rgb(rgb_to_image(rgb)), rgb)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ImageError, match="uint8"):
        rgb_to_image(wrong)


def test_a_message_as_it_is_made_is_no_image() -> None:
    with pytest.raises(UnusableImage):
        image_to_rgb(Image())
    with pytest.raises(UnusableImage):
        compressed_image_to_rgb(CompressedImage())


def test_depth() -> None:
    message = Image(height=1, width=2, encoding="16UC1", step=4, data=array.array("B", (0xE8, 0x03, 0, 0)))
    np.testing.assert_array_equal(image_to_depth_m(message), np.array([[1.0, np.nan]], np.float32))
    with pytest.raises(UnusableImage, match="depth"):
        image_to_rgb(message)


class Bridge:
    """Stands in for cv_bridge.CvBridge: converts bgr8 only, and notes what it was given."""

    seen: list[Any] = []  # noqa: RUF012

    def imgmsg_to_cv2(self, message: Any, wanted: str) -> np.ndarray:
        assert wanted == "rgb8"
        self.seen.append(message)
        if message.encoding != "bgr8":
            raise RuntimeError("not a color format")
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        return pixels[:, :, ::-1]


@pytest.fixture
def cv_bridge(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("cv_bridge")
    module.CvBridge = Bridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    Bridge.seen = []
    return module


def test_a_cv_bridge_that_works_is_used_behind_our_checks(cv_bridge: types.ModuleType) -> None:
    name, read = bridge.pixel_reader("auto")
    assert name == "cv_bridge"
    rgb = picture(2, 2)
    padded = np.zeros((2, 9), np.uint8)
    padded[:, :6] = rgb[:, :, ::-1].reshape(2, 6)
    arguments: dict[str, Any] = {"height": 2, "width": 2, "step": 9, "encoding": "bgr8"}
    np.testing.assert_array_equal(read(padded.tobytes(), **arguments), rgb)
    assert Bridge.seen[-1].step == 6  # packed, as not every cv_bridge heeds step
    asked = len(Bridge.seen)
    with pytest.raises(UnusableImage, match="18"):
        read(bytes(17), **arguments)
    assert len(Bridge.seen) == asked
    with pytest.raises(UnusableImage, match="not a color format"):
        read(bytes(8), height=2, width=2, step=4, encoding="16UC1")
    view = read(bytes(12), height=2, width=2, step=6, encoding="rgb8")
    assert len(Bridge.seen) == asked + 1 and not view.flags.writeable  # nothing to convert: a view


def test_a_cv_bridge_that_does_not_work_is_passed_over_with_its_reason(cv_bridge: types.ModuleType) -> None:
    def broken() -> None:
        raise ImportError("numpy.core.multiarray failed to import")

    cv_bridge.CvBridge = broken  # type: ignore[attr-defined]
    name, read = bridge.pixel_reader("auto")
    assert read is pixels_to_rgb and "multiarray" in name
    with pytest.raises(MissingExtra, match="image_converter"):
        bridge.pixel_reader("cv_bridge")


def test_without_cv_bridge_ours_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)  # type: ignore[arg-type]
    assert bridge.pixel_reader("builtin") == ("builtin", pixels_to_rgb)
    with pytest.raises(MissingExtra):
        bridge.pixel_reader("cv_bridge")
