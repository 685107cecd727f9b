"""A client of the action `ask` on the peer's executor."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from peer import PATIENCE_S, Peer
from rclpy.action import ActionClient

from exaone_interfaces.action import Ask
from exaone_interfaces.msg import Task
from exaone_ros.ros import qos


class Goal:
    """A goal that was sent, and what came of it; waits are for events."""

    def __init__(self, client: AskClient, goal: Ask.Goal) -> None:
        self.peer, self.feedback, self._done = client.peer, [], threading.Event()
        self.handle: Any = None
        self.answer: Any = None
        self._client, self._goal = client, goal

    def send(self) -> None:
        """On the executor's thread."""
        sent = self._client.client.send_goal_async(self._goal, self._on_feedback)
        sent.add_done_callback(self._on_taken)

    def _on_feedback(self, message: Any) -> None:
        with self.peer.changed:
            self.feedback.append(message.feedback)
            self.peer.changed.notify_all()

    def _on_taken(self, future: Any) -> None:
        self.handle = future.result()
        self.handle.get_result_async().add_done_callback(self._on_result)
        with self.peer.changed:
            self.peer.changed.notify_all()

    def _on_result(self, future: Any) -> None:
        self.answer = future.result()
        self._done.set()
        with self.peer.changed:
            self.peer.changed.notify_all()

    def result(self) -> tuple[int, Ask.Result]:
        """Wait for the end; status and result."""
        assert self._done.wait(PATIENCE_S), "no result came"
        return self.answer.status, self.answer.result


class AskClient:
    """An action client on the peer's executor."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.client: Any = None

        def make() -> None:
            self.client = ActionClient(
                peer.node,
                Ask,
                "ask",
                feedback_sub_qos_profile=qos.streamed_text(),
                goal_service_qos_profile=qos.many_calls(),
                result_service_qos_profile=qos.many_calls(),
                cancel_service_qos_profile=qos.many_calls(),
            )

        peer.run(make)
        assert self.client.wait_for_server(PATIENCE_S)

    def ask(self, task: Task, *cameras: str) -> Goal:
        """Send a goal."""
        goal = Goal(self, Ask.Goal(task=task, cameras=list(cameras)))
        self.peer.run(goal.send)
        return goal

    def ask_at_once(self, tasks: Sequence[Task]) -> list[Goal]:
        """Send several goals without looking at anything that comes back meanwhile."""
        goals = [Goal(self, Ask.Goal(task=task)) for task in tasks]

        def send() -> None:
            for goal in goals:
                goal.send()

        self.peer.run(send)
        return goals
