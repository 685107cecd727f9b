"""From a decision to a place in space: the newest choice, its box, and the camera's pose at the time of the image.

Knows no node; the executor's thread calls it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.localise import BALL, CUBE, CYLINDER, PinholeCamera, on_plane
from exaone_ros.action.observation import Target
from exaone_ros.action.spec import NS
from exaone_ros.errors import ActionError
from exaone_ros.ros.joint_parts import SET_BACK_S
from exaone_ros.sim.vocabulary import parse

JOINT_HISTORY, JOINTS_EVERY_NS = 2000, 5_000_000
"""Postures kept, and how far apart at least: 10 s of them at any rate of the joint states."""
MAX_POSE_GAP_S = 0.25
"""A posture is taken for that at the time of the image if it was measured at most this much before or after."""
MAX_SILENCE_S = 1.0
"""A joint that was measured longer than this before a posture was is unknown there: its driver has fallen silent."""
MAX_DISTORTION, MAX_ASPECT_ERROR = 1e-6, 0.01
"""A coefficient up to which a lens counts as straight, and how far fx may be from fy."""

Box = tuple[float, float, float, float]
Posture = dict[str, tuple[float, float]]
"""Of each joint the stamp of its newest state (ns; -inf: of before the clock was set back) and its position."""


@dataclass(frozen=True)
class Seen:
    """A detection. Attributes: label; box (x1, y1, x2, y2) in pixels; score 0..1, may be NaN."""

    label: str
    box: Box
    score: float


class NotSeen(ActionError):
    """What is wanted is not among the detections. Its text names labels of users; `without_labels` may be logged."""

    def __init__(self, label: str, seen: Sequence[Seen]) -> None:
        labels = sorted({s.label for s in seen}) or "nothing"
        super().__init__(f"no '{label}' is among the detections; seen: {labels}")
        self.without_labels = f"the target is not among the {len(seen)} detections"


class TargetFinder:
    """Remembers what was decided and seen, and locates it when asked.

    Args:
        kinematics: of the robot; used by this object alone.
        camera: name of the model's camera that detections come from.
        plane_z_m: height of the plane that objects stand on.
    """

    def __init__(self, kinematics: Kinematics, camera: str, plane_z_m: float) -> None:
        self._kinematics, self._camera, self._plane_z_m = kinematics, camera, plane_z_m
        self._joints: deque[tuple[int, Posture]] = deque(maxlen=JOINT_HISTORY)
        self._newest: Posture = {}
        self._projection: tuple[float, float, float] | None = None
        self._no_projection = ""
        self._seen: tuple[int, tuple[Seen, ...]] | None = None
        self._decision: tuple[int, str] | None = None

    def on_joints(self, stamp_ns: int, positions: Mapping[str, float]) -> None:
        """Positions of some joints: drivers may publish those of one robot in several messages."""
        own = {name: (stamp_ns, position) for name, position in positions.items()}
        if any(stamp_ns < self._newest[name][0] - SET_BACK_S * NS for name in own if name in self._newest):
            self._forget_behind(stamp_ns)
        self._newest = self._newest | own
        if not self._joints or not 0 <= stamp_ns - self._joints[-1][0] < JOINTS_EVERY_NS:
            self._joints.append((stamp_ns, self._newest))

    def _forget_behind(self, stamp_ns: int) -> None:
        """The clock was set back: what is later than this was measured, seen and decided before, in another world."""
        self._joints.clear()
        self._newest = {name: (-math.inf, position) for name, (_, position) in self._newest.items()}
        if self._seen is not None and self._seen[0] > stamp_ns + MAX_POSE_GAP_S * NS:
            self._seen = None
        if self._decision is not None and self._decision[0] > stamp_ns + MAX_POSE_GAP_S * NS:
            self._decision = None

    def on_camera_info(self, k: Sequence[float], d: Sequence[float] = ()) -> None:
        """The nine numbers of CameraInfo.k, and the coefficients of CameraInfo.d.

        What is no pinhole with square pixels is kept as a reason: a place read from it would be wrong.
        """
        (fx, cx, fy, cy), shown = (float(k[i]) for i in (0, 2, 4, 5)), [float(value) for value in k]
        self._projection, self._no_projection = None, ""
        if not (all(math.isfinite(value) for value in (fx, fy, cx, cy)) and fx > 0 and fy > 0):
            self._no_projection = f"camera_info has K = {shown}: calibrate the camera, or load its calibration"
        elif abs(fx - fy) > MAX_ASPECT_ERROR * max(fx, fy):
            self._no_projection = f"camera_info has fx = {fx:g} and fy = {fy:g}; expected square pixels, within 1 %"
        elif not all(abs(value) <= MAX_DISTORTION for value in d):
            self._no_projection = (
                f"camera_info has the distortion {[float(value) for value in d]}; places are read from rectified "
                "images only: give perception the rectified image, and this node its camera_info (D = 0)"
            )
        else:
            self._projection = ((fx + fy) / 2, cx, cy)

    def on_detections(self, stamp_ns: int, seen: Sequence[Seen]) -> None:
        """Everything that was seen on one image."""
        self._seen = (stamp_ns, tuple(seen))

    def on_decision(self, stamp_ns: int, choice: str) -> None:
        """What was chosen on one image; an empty choice is none."""
        if choice:
            self._decision = (stamp_ns, choice)

    def choice(self, now_ns: int, max_age_s: float) -> str:
        """The newest choice.

        Raises:
            ActionError: there is none, or it is too old.
        """
        if self._decision is None:
            raise ActionError("no decision came yet: is the perception node active, and does a task decide?")
        stamp_ns, choice = self._decision
        _check_age("the newest decision", stamp_ns, now_ns, max_age_s)
        return choice

    def locate(self, label: str, now_ns: int, max_age_s: float) -> Target:
        """Locate the most certain detection with this label.

        Raises:
            NotSeen: nothing of that label was seen.
            ActionError: nothing was seen lately, the camera's pose is unknown, or the box fits no object
                on the table.
        """
        if self._seen is None:
            raise ActionError("no detections came yet: is the perception node active, and does a task ground?")
        stamp_ns, seen = self._seen
        _check_age("the newest detections", stamp_ns, now_ns, max_age_s)
        same = [s for s in seen if s.label == label]
        if not same:
            raise NotSeen(label, seen)
        if self._projection is None:
            raise ActionError(self._no_projection or "no camera_info came yet: where a pixel looks is unknown")
        best = max(same, key=lambda s: s.score if s.score == s.score else 0.0)
        focal, cx, cy = self._projection
        posture, silent_s = self._posture(stamp_ns)
        pose = self._kinematics.camera(self._camera, posture)
        if not all(map(math.isfinite, (*pose.position, *pose.rotation.flat))):
            unknown = ", ".join(
                f"'{name}' silent for {silent_s[name]:.2f} s" if name in silent_s else f"'{name}' at {value}"
                for name, value in posture.items()
                if not math.isfinite(value)
            )
            raise ActionError(f"joint states have {unknown}: where the camera was is unknown")
        camera = PinholeCamera(focal, (cx, cy), pose.position, pose.rotation)
        return Target(label, on_plane(best.box, camera, self._plane_z_m, _shape(label)).top, stamp_ns)

    def _posture(self, stamp_ns: int) -> tuple[dict[str, float], dict[str, float]]:
        """The measured positions nearest to a time, as far as the model knows the joints, and for how many seconds
        those had been silent then whose driver was: their positions are NaN."""
        if not self._joints:
            raise ActionError("no joint states came yet: the camera's pose is unknown")
        at_ns, posture = min(self._joints, key=lambda entry: abs(entry[0] - stamp_ns))
        gap_s = abs(at_ns - stamp_ns) / NS
        if gap_s > MAX_POSE_GAP_S:
            raise ActionError(
                f"the joint states nearest to the image are {gap_s:.2f} s away from it; allowed are "
                f"{MAX_POSE_GAP_S:g} s: do camera and joint states have the same clock?"
            )
        known = {name: joint for name, joint in posture.items() if self._kinematics.knows(name)}
        silence_s = {name: (at_ns - measured_ns) / NS for name, (measured_ns, _) in known.items()}
        silent_s = {name: since_s for name, since_s in silence_s.items() if since_s > MAX_SILENCE_S}
        return {name: math.nan if name in silent_s else position for name, (_, position) in known.items()}, silent_s


def _shape(label: str) -> str:
    named = parse(label)
    shape = named[0] if named else None
    return {"ball": BALL, "cube": CUBE}.get(shape or "", CYLINDER)


def _check_age(what: str, stamp_ns: int, now_ns: int, max_age_s: float) -> None:
    age_s = (now_ns - stamp_ns) / NS
    if age_s < -max_age_s:
        raise ActionError(f"{what} is of an image {-age_s:.2f} s ahead of the clock: was the clock set back since?")
    if age_s > max_age_s:
        raise ActionError(f"{what} is of an image {age_s:.2f} s old; allowed are {max_age_s:g} s")
