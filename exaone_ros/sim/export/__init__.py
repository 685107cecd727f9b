"""The world in the formats of other tools: SDF for Gazebo, URDF for robot_state_publisher. Knows no ROS."""
