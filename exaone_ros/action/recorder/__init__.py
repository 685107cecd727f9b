"""Episodes on disk in the LeRobot v3 dataset format: `writer` records, `reader` reads, `bag` converts ROS 2 bags."""
