"""The command line: `exaone compile`, `exaone doctor`. Knows no ROS."""
