"""The reach head: through the whole runner and gate, with physics behind it, the hand arrives over the object."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("mujoco")

from action.fakes import Clock

from exaone_ros.action.gate import Gate, Stop
from exaone_ros.action.heads.reach import Arm, ReachHead, ReachSettings
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.observation import Observation, Target
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.runner import PolicyRunner
from exaone_ros.action.spec import NS, ActionSpec, Joint
from exaone_ros.errors import ActionError
from exaone_ros.sim import humanoid
from exaone_ros.sim.mjcf import robot_mjcf
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import TABLE_TOP_M, TableObject
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.world import World

ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow", "wrist_yaw", "wrist_pitch")
WAIST = ("waist_yaw", "waist_pitch")
NAMES = (*WAIST, *(f"{side}_{joint}" for side in ("left", "right") for joint in ARM))
HOME = dict.fromkeys(humanoid.JOINTS, 0.0) | humanoid.HOME_RAD
ARMS = tuple(
    Arm(side, f"{side}_grasp", (*WAIST, *(f"{side}_{joint}" for joint in ARM)), dict.fromkeys(WAIST, 4.0))
    for side in ("left", "right")
)
HOVER_M = ReachSettings().hover_m


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(robot_mjcf())


@pytest.fixture(scope="module")
def spec(kinematics: Kinematics) -> ActionSpec:
    joints = tuple(Joint(n, *kinematics.limits(n), 1.0 if n in WAIST else 2.0) for n in NAMES)
    return ActionSpec("tabletop_humanoid/arms", 30.0, 30, 15, joints)


@pytest.fixture
def head(spec: ActionSpec, kinematics: Kinematics) -> ReachHead:
    return ReachHead(spec, kinematics, ARMS, rest=HOME)


def observation(spec: ActionSpec, target: Target | None, stamp_ns: int = NS) -> Observation:
    return Observation(np.array([HOME[name] for name in spec.state], np.float32), stamp_ns, target=target)


NOTHING = np.empty((0, len(NAMES)), np.float32)


def top_of(thing: TableObject) -> tuple[float, float, float]:
    return thing.x_m, thing.y_m, TABLE_TOP_M + thing.height_m


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_the_hand_arrives_and_touches_nothing(head: ReachHead, spec: ActionSpec, seed: int) -> None:
    scene = sample_scene(np.random.default_rng(seed), SceneOptions((3, 4), 0.0, 0.0, camera_jitter=0.0))
    world = World(scene)
    world.step(100)
    thing = scene.objects[0]
    clock = Clock()
    runner = PolicyRunner(head, Gate(spec), ChunkQueue(spec), clock, steady_ns=clock)
    target = Target("it", top_of(thing), clock.now_ns)
    indices = [humanoid.JOINTS.index(name) for name in NAMES]

    def feed() -> None:
        states = world.joint_states().positions[indices].astype(np.float32)
        runner.heartbeat()
        runner.observe(Observation(states, clock.now_ns, target=target))

    try:
        feed()
        assert runner.start("pick it") is None
        for _ in range(30 * 30):
            with runner._changed:  # simulated time goes on when the head has nothing to do
                assert runner._changed.wait_for(
                    lambda: not runner._active or (runner._thinking_since_ns is None and not runner._wants_chunk()), 30
                )
            command = runner.tick()
            if command is not None:
                world.set_trajectory(Trajectory.checked(NAMES, [spec.dt_s], [command.position]))
            if not runner.active:
                break
            for _ in range(3):
                world.step(5)
            world.step(2)  # 17 steps of 2 ms are one period of 1/30 s, near enough
            clock.now_ns += spec.dt_ns
            feed()
        outcome = runner.outcome
        assert outcome is not None
        assert (outcome.reason, outcome.message) == (Stop.DONE, "")
    finally:
        runner.close()
    data, model = world._tabletop.data, world._tabletop.model
    world._tabletop.mj.mj_forward(model, data)
    goal = np.array(top_of(thing)) + np.array([0, 0, HOVER_M])
    hand_m = min(float(np.linalg.norm(data.site(f"{side}_grasp").xpos - goal)) for side in ("left", "right"))
    assert hand_m < 0.02
    for index, other in enumerate(scene.objects):
        assert np.linalg.norm(data.body(f"object_{index}").xpos - other.centre_m) < 0.005


def test_takes_the_nearer_hand(head: ReachHead, spec: ActionSpec) -> None:
    for y, side in ((0.35, "left"), (-0.35, "right")):
        seen = observation(spec, Target("it", (0.5, y, 0.87), NS))
        head.reset(seen)
        actions = head.predict(seen, NOTHING, 0).actions
        moved = np.abs(actions[-1] - actions[0])
        moving = {name for name, m in zip(NAMES, moved, strict=True) if m > 0.01}
        other = "right" if side == "left" else "left"
        assert any(name.startswith(side) for name in moving)
        assert not any(name.startswith(other) for name in moving)


def test_goes_on_from_what_is_under_way(head: ReachHead, spec: ActionSpec) -> None:
    seen = observation(spec, Target("it", (0.5, -0.3, 0.87), NS))
    head.reset(seen)
    first = head.predict(seen, NOTHING, 2)
    later = observation(spec, Target("it", (0.501, -0.3, 0.87), NS), NS + 10 * spec.dt_ns)  # not moved enough
    second = head.predict(later, first.actions[10:], 3)
    assert np.abs(second.actions[:20] - first.actions[10:]).max() < 1e-4
    moved = observation(spec, Target("it", (0.6, -0.2, 0.87), NS), NS + 10 * spec.dt_ns)
    third = head.predict(moved, first.actions[10:], 3)
    assert third.actions[:4] == pytest.approx(first.actions[10:14], abs=1e-6)  # as good as done
    assert np.abs(third.actions[:20] - first.actions[10:]).max() > 1e-3  # then another way


def test_what_is_under_way_may_lag_behind_its_way(head: ReachHead, spec: ActionSpec) -> None:
    seen = observation(spec, Target("it", (0.5, -0.3, 0.87), NS))
    head.reset(seen)
    first = head.predict(seen, NOTHING, 2)
    later = observation(spec, Target("it", (0.5, -0.3, 0.87), NS), NS + 20 * spec.dt_ns)
    second = head.predict(later, first.actions[12:], 1)  # eight actions late
    speed = np.abs(np.diff(second.actions.astype(np.float64), axis=0)) * spec.fps
    assert (speed <= spec.max_velocity).all()
    gate = Gate(spec)
    assert gate.open(first.actions[12], later.stamp_ns) is None
    assert gate.check(second, later.stamp_ns) is None


def test_refuses_what_it_cannot_do(head: ReachHead, spec: ActionSpec) -> None:
    with pytest.raises(ActionError, match="no object of the decision has been located"):
        head.reset(observation(spec, None))
    with pytest.raises(ActionError, match="located 9\\.00 s ago; allowed are 5 s"):
        head.reset(observation(spec, Target("mug", (0.5, 0, 0.9), NS), 10 * NS))
    far = observation(spec, Target("mug", (2.5, 0.0, 0.9), NS))
    head.reset(far)
    with pytest.raises(ActionError, match=r"'mug' at \(2\.500, 0\.000, 0\.900\) m is out of reach; nearest: left"):
        head.predict(far, NOTHING, 0)


def test_arms_must_be_in_the_spec(spec: ActionSpec, kinematics: Kinematics) -> None:
    poor = dataclasses.replace(spec, joints=spec.joints[:8], state=())
    with pytest.raises(ActionError, match="arm 'right' moves 'right_shoulder_pitch', which spec"):
        ReachHead(poor, kinematics, ARMS)
