"""EXAONE 4.5 compiled to TensorRT engines: planned, built, cached, run. Knows no ROS, no tasks and no grammar."""
