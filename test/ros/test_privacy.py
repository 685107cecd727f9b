"""What users ask and what their cameras see stays out of the logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from peer import perceiving, red_box

from exaone_interfaces.msg import Task
from exaone_interfaces.srv import SetTasks

MARK = "zebrafish"


def test_no_text_of_a_user_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through tasks that work, that fail and that are refused; the names of tasks may stand in the log."""
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "ros_log"))
    tasks = tmp_path / "tasks.yaml"
    tasks.write_text(
        f"way: {{kind: decide, instruction: 'Is the {MARK} here?', options: ['{MARK} yes', '{MARK} no']}}\n"
    )
    with perceiving(tmp_path, tasks_file=str(tasks)) as pair:
        peer, image = pair.peer, red_box(1, 1, 9, 9)
        decision = peer.stream(image, lambda: peer.received["decision"][0:1], "a decision")[0]
        assert MARK in decision.choice  # it did go through the node
        asked = [
            Task(name="seek", kind="ground", classes=[f"{MARK} of mine"]),
            Task(name="broken", kind="decide", instruction=f"Why a {MARK}?", options=[f"{MARK} 1", f"{MARK} 2"]),
        ]
        response = peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=asked))
        assert response.success, response.problems
        peer.stream(image, lambda: peer.diagnostics().get("failed.broken"), "a task that fails")
        refused = [Task(name="odd", kind="decide", instruction=f"{MARK}", options=[f"{MARK}"])]
        assert not peer.call(SetTasks, "set_tasks", SetTasks.Request(tasks=refused)).success
        assert "broken" in pair.process.output()  # the failure was told, by the task's name
        assert MARK not in pair.process.output()
    logs = [Path(folder, name) for folder, _, names in os.walk(tmp_path / "ros_log") for name in names]
    assert all(MARK not in log.read_text(errors="replace") for log in logs)
