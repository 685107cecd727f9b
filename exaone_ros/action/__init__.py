"""The action head: from observations to joint targets, through a gate that is closed by default.

Knows no rclpy. `spec` names the values, `heads` make chunks of actions, `queue` joins chunks in time, `gate` and
`watchdog` decide what may reach the robot, `runner` ties them together, `recorder` writes LeRobot datasets.
"""
