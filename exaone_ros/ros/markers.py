"""Detections in space as markers for RViz and Foxglove."""

from __future__ import annotations

from vision_msgs.msg import Detection3D, Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from exaone_ros.ros.messages import ns_to_duration
from exaone_ros.view.annotate import colour_of


def markers_of(message: Detection3DArray, lifetime_ns: int) -> MarkerArray:
    """A transparent box and a text for each object; what was there before goes.

    Args:
        message: in any frame.
        lifetime_ns: after this the viewer takes them down by itself: a node that died leaves nothing behind.
    """
    out = MarkerArray(markers=[Marker(header=message.header, action=Marker.DELETEALL)])
    for number, detection in enumerate(message.detections):
        best = detection.results[0].hypothesis if detection.results else None
        label = best.class_id if best is not None else ""
        red, green, blue = (part / 255 for part in colour_of(label))
        box = Marker(header=message.header, ns="boxes", id=number, type=Marker.CUBE, pose=detection.bbox.center)
        box.scale = detection.bbox.size
        box.color.r, box.color.g, box.color.b, box.color.a = red, green, blue, 0.4
        text = Marker(header=message.header, ns="labels", id=number, type=Marker.TEXT_VIEW_FACING)
        text.pose.position = detection.bbox.center.position
        text.scale.z = _text_height_m(detection)
        text.color.r = text.color.g = text.color.b = text.color.a = 1.0
        text.text = label
        box.lifetime = text.lifetime = ns_to_duration(lifetime_ns)
        out.markers += [box, text]
    return out


def _text_height_m(detection: Detection3D) -> float:
    size = detection.bbox.size
    return min(max(0.3 * max(size.x, size.y, size.z), 0.02), 0.2)
