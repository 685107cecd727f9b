"""A run that was recorded, as one HTML page: read the bag (`run`), draw (`charts`), write (`page`). Knows no rclpy."""
