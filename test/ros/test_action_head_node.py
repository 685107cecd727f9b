"""The action head's node among real processes: goals, gate, emergency stop, and where the hand ends."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from arm_peer import PATIENCE_S, ArmPeer, acting
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import JointState

from exaone_interfaces.action import RunPolicy
from exaone_ros.action.gate import Stop
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.robot import DEFAULT_ROBOT, load_robot
from exaone_ros.nodes.action_head import ActionHeadNode
from exaone_ros.share import share_path
from exaone_ros.sim.mjcf import robot_mjcf

TOP, RADIUS_M, HEIGHT_M = (0.55, -0.20, 0.91), 0.033, 0.11
FAR_TOP = (1.3, -0.20, 0.91)
LABEL = "red cylinder"


def ready(peer: ArmPeer) -> None:
    """Wait for the node to be active and to have taken what the peer plays."""
    peer.status("state", "active")
    peer.wait(lambda: int(peer._diagnostics.get("state.taken", "0")) > 5, "joint states taken")


def await_seen(peer: ArmPeer) -> RunPolicy.Result:
    """Show and decide, and send goals until one is not refused for want of a target; returns its result.

    What is published just after discovery may be missed.
    """

    def attempt() -> RunPolicy.Result:
        peer.see(LABEL, TOP, RADIUS_M, HEIGHT_M)
        peer.decide(LABEL)
        return peer.run()

    return peer.keep_trying(attempt, lambda result: result.stop != RunPolicy.Result.STOP_NO_TARGET, "a target")


def hand_distance_m(peer: ArmPeer) -> float:
    """From the nearer hand to where it should hover."""
    kinematics = Kinematics(load_robot(None, robot_mjcf).mjcf)
    goal = np.array(TOP) + np.array([0.0, 0.0, 0.035])
    sites = (kinematics.site(f"{side}_grasp", peer.positions).position for side in ("left", "right"))
    return min(float(np.linalg.norm(site - goal)) for site in sites)


def test_reaches_for_the_decided_object_and_every_command_is_lawful(tmp_path: Path) -> None:
    with acting(tmp_path, "reach") as (peer, _):
        ready(peer)
        refused = peer.run()
        assert (refused.stop, refused.success) == ("no_target", False)
        assert "no decision came yet" in refused.message
        assert peer.commands == []  # the gate is closed by default
        result = await_seen(peer)
        assert (result.stop, result.message) == ("done", "")
        assert result.success
        assert result.chunks >= 3
        # The result may overtake what came before it on other topics.
        peer.wait(lambda: len(peer.feedback) > 3, "feedback")
        peer.wait(lambda: peer.chunks and peer.chunks[-1].done, "the last chunk")
        peer.wait(lambda: hand_distance_m(peer) < 0.01, "the hand within 10 mm")
        spec = load_robot(None, robot_mjcf).spec
        assert peer.chunks[0].spec_hash == spec.hash
        assert len(peer.chunks[0].positions) == spec.horizon * len(spec.joints)
        positions = np.array([c.points[0].positions for _, c in peer.commands])
        assert list(peer.commands[0][1].joint_names) == list(spec.joint_names)
        assert (positions >= spec.lower).all()
        assert (positions <= spec.upper).all()
        assert (np.abs(np.diff(positions, axis=0)) <= spec.max_velocity * spec.dt_s + 1e-9).all()


def test_what_was_not_seen_is_not_reached_for(tmp_path: Path) -> None:
    with acting(tmp_path, "unseen") as (peer, process):
        ready(peer)
        stops = set()

        def attempt() -> str:
            peer.see(LABEL, TOP, RADIUS_M, HEIGHT_M)
            result = peer.run(target="blue mug")
            stops.add(result.stop)
            return str(result.message)

        words = "no 'blue mug' is among the detections; seen: ['red cylinder']"
        peer.keep_trying(attempt, lambda message: words in message, "a refusal that says what was seen")
        assert stops == {"no_target"}
        assert "goal refused: no_target" in process.output()  # told, but without the words of a user
        assert "blue mug" not in process.output() and LABEL not in process.output()
        assert peer.commands == []


def test_what_is_out_of_reach_is_named_to_the_client_and_not_in_the_log(tmp_path: Path) -> None:
    with acting(tmp_path, "far") as (peer, process):
        ready(peer)

        def attempt() -> RunPolicy.Result:
            peer.see(LABEL, FAR_TOP, RADIUS_M, HEIGHT_M)
            return peer.run(target=LABEL)

        result = peer.keep_trying(attempt, lambda found: found.stop != RunPolicy.Result.STOP_NO_TARGET, "a target")
        assert (result.stop, result.success) == (RunPolicy.Result.STOP_HEAD_FAILED, False)
        assert f"'{LABEL}' at (" in result.message and "out of reach" in result.message
        assert "goal ended: head_failed (the goal's result says why)" in process.output()
        assert LABEL not in process.output()


def test_estop_holds_at_once_and_latches(tmp_path: Path) -> None:
    with acting(tmp_path, "estop", head="sine", sine_joint="left_elbow") as (peer, _):
        ready(peer)
        handle = peer.send_goal("wave")
        peer.wait(lambda: len(peer.commands) > 20, "the arm to move")
        peer.wait(lambda: peer._diagnostics.get("gate") == "open", "the gate in diagnostics")
        assert peer._diagnostics["loop.scheduling"].startswith(("fifo 50", "normal: "))
        peer.press_estop()
        result = peer.result(handle)
        assert result.stop == RunPolicy.Result.STOP_ESTOP
        peer.status("estop", "latched")

        def held() -> list[float] | None:
            newest = [list(command.points[0].positions) for _, command in peer.commands[-10:]]
            return newest[0] if all(positions == newest[0] for positions in newest) else None

        assert np.abs(peer.wait(held, "the hold to be repeated")).max() > 0.1  # a position, not zeros
        assert peer.run(instruction="wave").stop == "estop"
        assert peer.reset_estop() == (False, "the emergency stop is still pressed; release it first")
        peer.press_estop(False)
        peer.keep_trying(peer.reset_estop, lambda answer: answer[0], "the release to arrive")
        peer.status("estop", "released")
        peer.feedback.clear()
        handle = peer.send_goal("wave")
        peer.wait(lambda: peer.feedback, "feedback of the new goal")
        peer.await_future(peer.begin(handle.cancel_goal_async))
        assert peer.result(handle).stop == "cancelled"


def test_a_goal_that_was_cancelled_is_told_so_although_the_next_one_is_there(tmp_path: Path) -> None:
    with acting(tmp_path, "again", head="hold") as (peer, _):
        ready(peer)
        for _ in range(10):  # the next one may come before the control loop has looked
            handle = peer.send_goal("stay")
            cancelling = peer.begin(handle.cancel_goal_async)
            following = peer.send_goal("stay")
            peer.await_future(cancelling)
            assert peer.result(handle).stop in ("cancelled", "busy")
            peer.await_future(peer.begin(following.cancel_goal_async))
            assert peer.result(following).stop in ("cancelled", "busy")


def test_a_lost_heartbeat_or_state_ends_the_goal(tmp_path: Path) -> None:
    # A plan of ten seconds: it must not run out before the patient watchdog notices that the joints are silent.
    robot = tmp_path / "robot.yaml"
    robot.write_text(f"extends: {share_path(DEFAULT_ROBOT)}\nhorizon: 300\n")
    with acting(tmp_path, "lost", head="hold", robot_file=str(robot)) as (peer, _):
        ready(peer)
        handle = peer.send_goal("stay")
        peer.wait(lambda: len(peer.commands) > 10, "commands")
        peer.heart_beats = False
        assert peer.result(handle).stop == "heartbeat_lost"
        assert peer.run(instruction="stay").stop == "heartbeat_lost"
        peer.heart_beats = True
        stops: list[str] = []

        def attempt() -> str:
            stops.append(str(peer.run(instruction="stay", deadline=0.2).stop))
            return stops[-1]

        peer.keep_trying(attempt, lambda stop: stop == "deadline", "the first beat to arrive")
        assert set(stops) <= {"heartbeat_lost", "deadline"}
        handle = peer.send_goal("stay")
        assert peer.run(instruction="stay").stop == "busy"
        peer.sends_joints = False
        assert peer.result(handle).stop == "state_lost"


def test_joints_of_several_drivers_make_a_state_until_one_of_them_is_silent(tmp_path: Path) -> None:
    class Drivers(ArmPeer):
        silent = False

        def joint_states(self) -> list[JointState]:
            names = list(self.positions)
            parts = names[:12], names[12:]
            return [
                JointState(header=self.header(), name=part, position=[self.positions[name] for name in part])
                for part in parts[: 1 if self.silent else 2]
            ]

    with acting(tmp_path, "drivers", Drivers, head="sine", sine_joint="left_elbow") as (peer, _):
        ready(peer)
        handle = peer.send_goal("wave")
        peer.wait(lambda: len(peer.commands) > 20, "the arm to move")
        peer.silent = True  # type: ignore[attr-defined]
        assert peer.result(handle).stop == "state_lost"


def test_lifecycle_and_bad_configuration(tmp_path: Path) -> None:
    with acting(tmp_path, "cycle", head="hold", autostart=False) as (peer, process):
        peer.status("state", "unconfigured")
        change = peer.node.create_client(ChangeState, "action_head/change_state")
        assert change.wait_for_service(PATIENCE_S)

        def transition(number: int) -> bool:
            request = ChangeState.Request(transition=Transition(id=number))
            return bool(peer.await_future(change.call_async(request)).success)

        assert transition(Transition.TRANSITION_CONFIGURE)
        assert peer.run(instruction="stay").stop == "inactive"
        assert transition(Transition.TRANSITION_ACTIVATE)
        peer.wait(lambda: int(peer._diagnostics.get("state.taken", "0")) > 5, "joint states taken")
        handle = peer.send_goal("stay")
        peer.wait(lambda: len(peer.commands) > 10, "commands")
        assert transition(Transition.TRANSITION_DEACTIVATE)
        assert peer.result(handle).stop == "inactive"
        peer.press_estop()
        peer.status("estop", "latched")
        assert transition(Transition.TRANSITION_CLEANUP)
        assert transition(Transition.TRANSITION_CONFIGURE)
        assert transition(Transition.TRANSITION_ACTIVATE)
        waits = ("heartbeat_lost", "state_lost")  # until both have come
        stop = peer.keep_trying(
            lambda: str(peer.run(instruction="stay").stop), lambda stop: stop not in waits, "beat and joints"
        )
        assert stop == "estop"  # what is latched stays so
        assert transition(Transition.TRANSITION_DEACTIVATE)
        assert process.end(signal.SIGINT) == 0
    override = {"qos_overrides./mistaken/joint_trajectry.publisher.depth": 3}
    with acting(tmp_path, "mistaken", **override) as (peer, process):
        peer.wait(lambda: "/mistaken/joint_trajectory.publisher" in peer._diagnostics.get("message", ""), "the reason")
    with acting(tmp_path, "wrong", robot_file="/nowhere.yaml") as (peer, process):
        status = peer.status("state", "unconfigured")
        failed = peer.wait(lambda: status if "nowhere" in peer._diagnostics.get("message", "") else None, "the reason")
        assert failed
        assert "robot file /nowhere.yaml cannot be read" in peer._diagnostics["message"]


def test_a_node_that_is_shut_down_tells_the_client_of_its_goal_and_refuses_the_next(tmp_path: Path) -> None:
    with acting(tmp_path, "shutdown", head="hold") as (peer, _):
        ready(peer)
        change = peer.node.create_client(ChangeState, "action_head/change_state")
        assert change.wait_for_service(PATIENCE_S)
        handle = peer.send_goal("stay")
        peer.wait(lambda: len(peer.commands) > 10, "commands")
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN))
        assert peer.await_future(change.call_async(request)).success
        assert peer.result(handle).stop == "inactive"
        refused = peer.run(instruction="stay")
        assert (refused.stop, refused.message) == ("inactive", "the node is finalized; activate it first")


def test_a_loop_that_keeps_failing_ends_the_goal_with_the_error_and_tells_its_client() -> None:
    did: list[Any] = []
    runner = SimpleNamespace(cancel=lambda reason, message: did.append((reason, message)))
    node: Any = SimpleNamespace(_runner=runner, _settle=lambda: did.append("told"))
    ActionHeadNode._on_failing(node, ValueError("oops"))
    assert did == [(Stop.INACTIVE, "the control loop keeps failing: ValueError: oops"), "told"]


def test_a_hold_that_cannot_be_published_ends_the_loop_and_the_goal_all_the_same() -> None:
    did: list[Any] = []

    def tick() -> None:
        raise ValueError("oops")

    runner = SimpleNamespace(
        cancel=lambda reason, message: did.append(reason), release=lambda message: did.append("released")
    )
    loop = SimpleNamespace(stop=lambda: did.append("stopped"))
    node: Any = SimpleNamespace(_runner=runner, _loop=loop, _tick=tick, _settle=lambda: did.append("told"))
    with pytest.raises(ValueError, match="oops"):
        ActionHeadNode.stop(node)
    assert did == [Stop.INACTIVE, "stopped", "told", "released"] and node._loop is None
