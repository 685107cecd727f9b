"""The action server of `ask`: several goals at a time, streamed text, one typed result for each.

rclpy's coroutine for a goal that waits for something keeps the executor of Jazzy spinning at full speed until it is
there. So a goal is left alone while its question is open, and carried to its end by a task of the executor when the
reply has come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node

from exaone_interfaces.action import Ask
from exaone_ros.ros import qos
from exaone_ros.ros.ask_messages import question_of, result_of
from exaone_ros.ros.asking import Asker, AskRefused, OpenQuestion, Reply

RESULT_KEPT_S = 60
"""How long a result can be fetched; each one that is kept slows the server down a little."""


class AskServer:
    """Serves `ask` from the construction of the node on; what cannot be answered is refused by a result with a reason.

    Args:
        node: whose executor carries goals to their end.
        asker: who takes questions at present; None while the node is not active.
        defaults: the first camera's name, and the deadline in seconds of goals that name none.
    """

    def __init__(
        self, node: Node, asker: Callable[[], Asker | None], defaults: Callable[[], tuple[str, float]]
    ) -> None:
        self._node, self._asker, self._defaults = node, asker, defaults
        self._open: dict[bytes, OpenQuestion] = {}
        self._replies: dict[bytes, Reply] = {}
        self._server = ActionServer(
            node,
            Ask,
            "ask",
            execute_callback=self._finish,
            goal_callback=lambda _: GoalResponse.ACCEPT,
            handle_accepted_callback=self._begin,
            cancel_callback=self._cancel,
            goal_service_qos_profile=qos.many_calls(),
            result_service_qos_profile=qos.many_calls(),
            cancel_service_qos_profile=qos.many_calls(),
            feedback_pub_qos_profile=qos.streamed_text(),
            result_timeout=RESULT_KEPT_S,
        )

    def destroy(self) -> None:
        """Take the server down; the executor does not spin any more."""
        self._server.destroy()

    def _begin(self, handle: ServerGoalHandle) -> None:
        """In the executor's thread: a goal has been accepted."""
        key = _key(handle)
        try:
            asker = self._asker()
            if asker is None:
                raise AskRefused("inactive", "the node is not active")
            question = question_of(handle.request, *self._defaults())
            self._open[key] = asker.ask(
                question,
                on_text=lambda text, reasoning: handle.publish_feedback(Ask.Feedback(text=text, reasoning=reasoning)),
                on_reply=lambda reply: self._hand_over(handle, reply),
            )
        except AskRefused as error:
            self._hand_over(handle, Reply(error.reason, str(error)))

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        question = self._open.get(_key(handle))
        if question is None:
            return CancelResponse.REJECT  # it has ended
        question.cancel()
        return CancelResponse.ACCEPT

    def _hand_over(self, handle: ServerGoalHandle, reply: Reply) -> None:
        """In any thread: let the executor end the goal."""
        executor: Any = self._node.executor
        if executor is not None:
            self._replies[_key(handle)] = reply
            executor.create_task(handle.execute)

    def _finish(self, handle: ServerGoalHandle) -> Ask.Result:
        """In the executor's thread: the goal's last step."""
        reply = self._replies.pop(_key(handle))
        self._open.pop(_key(handle), None)
        if reply.reason == "none":
            handle.succeed()
        elif reply.reason == "cancelled" and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return result_of(reply)


def _key(handle: ServerGoalHandle) -> bytes:
    return bytes(handle.goal_id.uuid)
