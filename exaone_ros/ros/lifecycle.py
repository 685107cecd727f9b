"""The one transition discipline of our lifecycle nodes: load in configure, work in active, free in cleanup.

rclpy swallows what a transition callback raises and reports a bare ERROR. Here every failure is logged (with its
traceback where it was not foreseen), kept as `failure` for diagnostics, and leaves the node in the state it came from
with everything undone that the transition had begun.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from exaone_ros.errors import ExaoneError
from exaone_ros.ros.parameters import named_overrides


class ManagedNode(LifecycleNode):
    """A lifecycle node whose four hooks raise on failure.

    Subclasses override `load`, `start`, `stop` and `free`; they run in the executor's thread, one at a time. `stop` and
    `free` must cope with a `start` or `load` that went only half way.

    Attributes:
        failure: why the last transition failed, e.g. ``configure: CheckpointError: ...``; None after one that did not.
    """

    failure: str | None = None

    def __init__(self, name: str, **arguments: Any) -> None:
        with named_overrides(self):
            super().__init__(name, automatically_declare_parameters_from_overrides=True, **arguments)
        # rclpy raises in this callback when asked for a transition that the state does not allow; the client would
        # wait for ever, and the executor would end.
        change_state = self._service_change_state.callback
        self._service_change_state.callback = lambda request, response: self._answer(change_state, request, response)

    def load(self) -> None:
        """Configure: read parameters, take what is slow to get."""

    def start(self) -> None:
        """Activate: begin to work."""

    def stop(self) -> None:
        """Deactivate: end the work that `start` began."""

    def free(self) -> None:
        """Clean up: give back what `load` took."""

    @property
    def state(self) -> str:
        """unconfigured, inactive, active, finalized, or a transition's name."""
        return str(self._state_machine.current_state[1])

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load; on failure free what was loaded and stay unconfigured."""
        return self._transition("configure", self.load, undo=self.free, entities=super().on_configure, state=state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start; on failure stop what was started and stay inactive."""
        return self._transition("activate", self.start, undo=self.stop, entities=super().on_activate, state=state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop."""
        return self._transition("deactivate", self.stop, undo=None, entities=super().on_deactivate, state=state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free."""
        return self._transition("clean up", self.free, undo=None, entities=super().on_cleanup, state=state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free, whatever the state."""
        return self._transition("shut down", self._end, undo=None, entities=super().on_shutdown, state=state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a stop or free that failed: free what can be freed; the node is unconfigured then."""
        failure = self.failure
        self._transition("recover", self._end, undo=None, entities=super().on_error, state=state)
        self.failure = failure
        return TransitionCallbackReturn.SUCCESS

    def _answer(self, change_state: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
        try:
            return change_state(request, response)
        except Exception as error:  # RCLError is not public
            asked = request.transition.label or request.transition.id
            self.get_logger().error(f"transition {asked} is not possible while {self.state}: {error}")
            response.success = False
            return response

    def _end(self) -> None:
        try:
            self.stop()
        finally:
            self.free()

    def _transition(
        self,
        name: str,
        action: Callable[[], None],
        undo: Callable[[], None] | None,
        entities: Callable[[LifecycleState], TransitionCallbackReturn],
        state: LifecycleState,
    ) -> TransitionCallbackReturn:
        """Run one hook and rclpy's own part, which switches the lifecycle publishers on and off."""
        try:
            action()
            self.failure = None
            return entities(state)
        except Exception as error:  # a transition must end in a state, whatever a hook raises
            self.failure = f"{name}: {type(error).__name__}: {error}"
            # What we raise on purpose explains itself; for the rest the traceback is the explanation.
            detail = "" if isinstance(error, ExaoneError) else "\n" + traceback.format_exc()
            self.get_logger().error(f"could not {self.failure}{detail}")
        if undo is None:
            return TransitionCallbackReturn.ERROR
        try:
            undo()
        except Exception:
            self.get_logger().error(f"could not undo a failed '{name}':\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.FAILURE

    @property
    def autostart(self) -> bool:
        """True where the node configures and activates itself."""
        return False

    def begin(self) -> None:
        """Configure and activate without being asked, where `autostart` says so; a failure is logged and kept."""
        if not self.autostart:
            return
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                return

    def end(self) -> None:
        """Stop and free before the process ends; the executor does not spin any more."""
        if self.state in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()
