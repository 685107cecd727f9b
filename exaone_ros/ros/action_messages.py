"""Chunks, commands and outcomes as messages; joint states and detections the other way round. Without a node."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from vision_msgs.msg import Detection2DArray

from exaone_interfaces.action import RunPolicy
from exaone_interfaces.msg import ActionChunk as ActionChunkMessage
from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.gate import Stop
from exaone_ros.action.goal import Outcome
from exaone_ros.action.spec import ActionSpec
from exaone_ros.ros.messages import box_of, ns_to_duration, ns_to_time
from exaone_ros.ros.targets import Seen


def trajectory_message(spec: ActionSpec, position: NDArray[np.float64]) -> JointTrajectory:
    """One command: be there in one action period.

    The stamp is zero, which tells a JointTrajectoryController to begin at once. There is one point and no velocity:
    where no further command comes, the robot ends there at rest by itself.
    """
    point = JointTrajectoryPoint(positions=position.tolist(), time_from_start=ns_to_duration(spec.dt_ns))
    return JointTrajectory(joint_names=list(spec.joint_names), points=[point])


def chunk_message(spec: ActionSpec, chunk: ActionChunk) -> ActionChunkMessage:
    """A chunk that was taken over; its stamp says when its first row is due."""
    return ActionChunkMessage(
        header=Header(stamp=ns_to_time(chunk.t0_ns)),
        head=chunk.head,
        spec_hash=chunk.spec_hash,
        joint_names=list(spec.joint_names),
        dt=ns_to_duration(chunk.dt_ns),
        positions=chunk.actions.ravel().tolist(),
        observed=ns_to_time(chunk.observed_ns),
        done=chunk.done,
    )


def result_message(outcome: Outcome) -> RunPolicy.Result:
    """How a goal ended."""
    return RunPolicy.Result(
        success=outcome.reason is Stop.DONE,
        stop=outcome.reason.value,
        message=outcome.message,
        chunks=outcome.chunks,
        duration=outcome.duration_s,
    )


def seen_of(message: Detection2DArray) -> list[Seen]:
    """What a Detection2DArray says was seen: the best hypothesis of each detection."""
    seen = []
    for detection in message.detections:
        if detection.results:
            best = max(detection.results, key=lambda r: r.hypothesis.score).hypothesis
            seen.append(Seen(best.class_id, box_of(detection), best.score))
    return seen
