"""A camera as a process: publishes a red box ten times a second until it is killed. Arguments: its namespace."""

from __future__ import annotations

import sys
from pathlib import Path

import rclpy
from std_msgs.msg import Header

sys.path.insert(0, str(Path(__file__).parent))

from peer import red_box

from exaone_ros.ros import qos
from exaone_ros.ros.image import rgb_to_image

rclpy.init(args=[])
node = rclpy.create_node("camera", namespace=sys.argv[1])
publisher = node.create_publisher(type(rgb_to_image(red_box(1, 1, 9, 9))), "image_raw", qos.published_image())


def publish() -> None:
    header = Header(stamp=node.get_clock().now().to_msg(), frame_id="camera_optical_frame")
    publisher.publish(rgb_to_image(red_box(1, 1, 9, 9), header))


node.create_timer(0.1, publish)
rclpy.spin(node)
