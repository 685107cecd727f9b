"""Detections in space over real DDS; and in another frame, with a stand-in for tf2_ros, which wheels do not bring."""

from __future__ import annotations

import array
import math
import sys
import time
import types
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from companion_peer import FRAME_ID, accompanied, detections, header
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Quaternion, TransformStamped
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from exaone_ros.errors import MissingExtra
from exaone_ros.geometry.space import BoxInSpace
from exaone_ros.ros.markers import markers_of
from exaone_ros.ros.parameters import ParameterError
from exaone_ros.ros.spatial import detection_in_space
from exaone_ros.ros.transform import product, rotated, transformed

BOX = (20.0, 10.0, 44.0, 34.0)


def depth_image(stamp_ns: int, encoding: str = "16UC1", width: int = 64) -> Image:
    """A wall at 2 m, and 1 m where BOX is; a quarter of it holes."""
    metres = np.full((48, width), 2.0)
    metres[10:34, 20:44] = 1.0
    metres[10:34:2, 20:44:2] = 0.0
    data = metres.astype("<f4") if encoding == "32FC1" else (metres * 1000).astype("<u2")
    step = data.strides[0]
    return Image(header=header(stamp_ns), height=48, width=width, encoding=encoding, step=step,
                 data=array.array("B", data.tobytes()))  # fmt: skip


def camera_info(stamp_ns: int) -> CameraInfo:
    k = [100.0, 0.0, 31.5, 0.0, 100.0, 23.5, 0.0, 0.0, 1.0]
    return CameraInfo(header=header(stamp_ns), width=64, height=48, k=k, distortion_model="plumb_bob")


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_a_box_and_its_depth_become_a_box_in_space(encoding: str) -> None:
    with accompanied(f"space_{encoding.lower()}", depth_topic="depth", image_topic="cam/image_raw") as peer:
        peer.listen(Detection3DArray, "detections_3d")
        peer.listen(MarkerArray, "markers")

        def look(stamp_ns: int) -> None:
            peer.send("cam/camera_info", camera_info(stamp_ns))
            peer.send("detections", detections(stamp_ns, ("red cube", BOX), ("ghost", (200.0, 200.0, 220.0, 220.0))))
            peer.send("depth", depth_image(stamp_ns + 1_000_000, encoding))  # later than the detections, 1 ms apart

        both = ("detections_3d", "markers")
        peer.stream(look, lambda: all(any(len(list_of(m)) > 0 for m in peer.received[t]) for t in both), "both")
        message = next(m for m in peer.received["detections_3d"] if m.detections)
        markers = next(m for m in peer.received["markers"] if len(m.markers) > 1)
        (found,) = message.detections  # the other one lies outside the image
        assert peer.companion.spatial_counts["box_outside_image"] >= 1
    assert message.header.frame_id == found.header.frame_id == FRAME_ID
    assert found.id == "objects/0" and found.results[0].hypothesis.class_id == "red cube"
    place, size = found.bbox.center.position, found.bbox.size
    assert 1.0 < place.z < 1.2 and abs(place.x) < 1e-6 and place.y == pytest.approx(-0.02 * place.z)
    assert size.x == pytest.approx(0.24 * place.z) and size.y == pytest.approx(0.24 * place.z)
    assert found.results[0].pose.pose == found.bbox.center and found.bbox.center.orientation.w == 1.0
    assert [m.action for m in markers.markers] == [Marker.DELETEALL, Marker.ADD, Marker.ADD]


def list_of(message: Any) -> Any:
    return message.detections if hasattr(message, "detections") else message.markers[1:]


def test_what_is_missing_is_counted_by_name() -> None:
    with accompanied("missing", depth_topic="depth") as peer:

        def look(stamp_ns: int) -> None:
            peer.send("detections", detections(stamp_ns, ("red cube", BOX)))
            peer.send("depth", depth_image(stamp_ns))

        def unmatched(stamp_ns: int) -> None:
            peer.send("detections", detections(stamp_ns, ("red cube", BOX)))
            peer.send("depth", depth_image(stamp_ns + 30_000_000_000))

        def misaligned(stamp_ns: int) -> None:
            peer.send("camera_info", camera_info(stamp_ns))
            peer.send("detections", detections(stamp_ns, ("red cube", BOX)))
            peer.send("depth", depth_image(stamp_ns, width=80))

        counts = peer.companion.spatial_counts
        peer.listen(DiagnosticArray, "/diagnostics")
        warned = DiagnosticStatus.WARN
        peer.stream(look, lambda: counts["no_camera_info"] > 1, "a missing camera_info")
        peer.stream(look, lambda: any(m.status[0].level == warned for m in peer.received["/diagnostics"]), "a warning")
        peer.stream(misaligned, lambda: counts["bad_depth"] > 1, "a depth image of another size")
        peer.stream(unmatched, lambda: counts["no_depth"] > 1, "a missing depth image")


def test_depth_of_another_frame_is_told_and_used() -> None:
    with accompanied("other_frame", depth_topic="depth") as peer:

        def look(stamp_ns: int) -> None:
            depth = depth_image(stamp_ns)
            depth.header.frame_id = "depth_optical_frame"
            peer.send("camera_info", camera_info(stamp_ns))
            peer.send("detections", detections(stamp_ns, ("red cube", BOX)))
            peer.send("depth", depth)

        counts = peer.companion.spatial_counts
        peer.stream(look, lambda: counts["depth_of_other_frame"] > 1 and counts["published"] > 1, "both counts")


def test_detections_that_wait_while_the_clock_is_set_back_are_let_go() -> None:
    with accompanied("set_back", depth_topic="depth") as peer:
        spatial = peer.companion._spatial
        assert spatial is not None
        counts = spatial.counts
        long_ns, start_ns = 1000 * 10**9, time.time_ns()

        def before(stamp_ns: int) -> None:  # the depth of this moment does not come
            peer.send("camera_info", camera_info(stamp_ns))
            peer.send("depth", depth_image(stamp_ns - long_ns))
            peer.send("detections", detections(stamp_ns, ("red cube", BOX)))

        peer.stream(
            before, lambda: spatial._waiting and spatial._depths.newest_ns, "detections that wait for their depth"
        )
        peer.stream(
            lambda stamp_ns: peer.send("depth", depth_image(stamp_ns - start_ns)),
            lambda: not spatial._waiting and counts["no_depth"],
            "those that wait to be given up",
        )
        assert counts["published"] == 0


def test_markers_go_by_themselves_and_name_what_they_show() -> None:
    message = Detection3DArray(header=header(5))
    assert [m.action for m in markers_of(message, 10).markers] == [Marker.DELETEALL]
    source = detections(5, ("mug", BOX)).detections[0]
    place = BoxInSpace((0.1, 0.2, 0.9), (0.1, 0.1, 0.1), 0.9, 99)
    message.detections.append(detection_in_space(source, place, header(5)))
    _, box, text = markers_of(message, 1_500_000_000).markers
    assert (box.type, text.type, text.text) == (Marker.CUBE, Marker.TEXT_VIEW_FACING, "mug")
    assert box.lifetime.sec == 1 and box.pose.position.z == 0.9 and box.scale.x == 0.1 and 0 < box.color.a < 1


def test_a_target_frame_without_tf2_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    wanted = {"depth_topic": "depth", "target_frame": "base_link"}
    with pytest.raises(MissingExtra, match=r"target_frame.*tf2_ros"), accompanied("no_tf", **wanted):
        pass


def quarter_turn() -> Quaternion:
    """90 degrees about z."""
    return Quaternion(w=math.sqrt(0.5), z=math.sqrt(0.5))


class Buffer:
    """tf2_ros.Buffer with one transform that is known from the second look on."""

    asked = 0

    def __init__(self, cache_time: Any) -> None:
        pass

    def lookup_transform(self, target: str, source: str, time: Any) -> TransformStamped:
        Buffer.asked += 1
        if Buffer.asked == 1:
            raise KeyError("extrapolation into the future")
        assert (target, source) == ("base_link", FRAME_ID) and time.nanoseconds > 0
        found = TransformStamped()
        found.transform.translation.z = 1.0
        found.transform.rotation = quarter_turn()
        return found


def test_detections_are_brought_into_the_target_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("tf2_ros")
    fake.Buffer, fake.TransformException = Buffer, KeyError  # type: ignore[attr-defined]
    fake.TransformListener = lambda buffer, node: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tf2_ros", fake)
    with accompanied("tf", depth_topic="depth", target_frame="base_link") as peer:
        peer.listen(Detection3DArray, "detections_3d")

        def look(stamp_ns: int) -> None:
            peer.send("camera_info", camera_info(stamp_ns))
            peer.send("depth", depth_image(stamp_ns))
            peer.send("detections", detections(stamp_ns, ("red cube", BOX)))

        peer.stream(look, lambda: peer.received["detections_3d"], "detections in the target frame")
        message = peer.received["detections_3d"][0]
        assert peer.companion.spatial_counts["no_transform"] == 1
    place = message.detections[0].bbox.center
    assert message.header.frame_id == message.detections[0].header.frame_id == "base_link"
    assert 2.0 < place.position.z < 2.2 and abs(place.position.y) < 1e-6 and place.position.x > 0.01


def test_turning_agrees_with_matrices() -> None:
    turn = quarter_turn()
    assert np.allclose(rotated(turn, np.array([1.0, 2.0, 3.0])), [-2, 1, 3])
    twice = product(turn, turn)
    assert np.allclose(rotated(twice, np.array([1.0, 2.0, 3.0])), [-1, -2, 3])
    assert transformed(Detection3DArray(header=header(7)), TransformStamped().transform, "map").header.frame_id == "map"


def test_an_empty_range_of_depth_is_refused() -> None:
    wanted = {"depth_topic": "depth", "min_depth_m": 5.0, "max_depth_m": 1.0}
    with pytest.raises(ParameterError, match="min_depth_m"), accompanied("range", **wanted):
        pass
