"""Boxes in space and time: where a box lies, and where it has moved to. Knows numpy and OpenCV; no ROS, no engine."""
