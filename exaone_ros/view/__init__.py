"""What people look at: annotated images, live tables, summaries of a run. Knows no rclpy and no engine."""
