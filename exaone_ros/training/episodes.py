"""Record example episodes: the simulated robot reaches for objects, and a LeRobot dataset is written.

`python -m exaone_ros.training.episodes OUT --episodes 5`: deterministic, no ROS, as fast as the machine can. The reach
head plays the teacher; what is recorded is what a policy would see and should do. Continued where OUT exists.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.gate import Gate, Verdict
from exaone_ros.action.heads.reach import ReachHead, ReachSettings
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.observation import Observation, Target
from exaone_ros.action.queue import ChunkQueue
from exaone_ros.action.recorder.writer import DatasetWriter
from exaone_ros.action.robot import Robot, load_robot
from exaone_ros.action.spec import NS
from exaone_ros.errors import ActionError, ExaoneError
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.share import share_path
from exaone_ros.sim.humanoid import JOINTS
from exaone_ros.sim.mjcf import robot_mjcf
from exaone_ros.sim.sampling import SceneOptions, sample_scene
from exaone_ros.sim.scene import TABLE_TOP_M, Scene
from exaone_ros.sim.tabletop import TabletopRenderer
from exaone_ros.sim.trajectory import Trajectory
from exaone_ros.sim.vocabulary import name
from exaone_ros.sim.world import STEP_S, World, render_snapshot
from exaone_ros.training.cli_arguments import whole

ROBOT_FILE = "config/tabletop_humanoid_camera.yaml"
MOST_SECONDS = 30.0
STEPS_AT_ONCE = 5
"""Physics steps between two looks at the trajectory; an action period must be a multiple of them."""


class Teacher:
    """A simulated robot that reaches for the objects of scenes, and what it sees and does meanwhile.

    Args:
        robot: with one camera, the head's.
        renderer: draws the head camera's image.

    Raises:
        ActionError: the robot's rate does not fit the physics, or it has not exactly one camera.
    """

    def __init__(self, robot: Robot, renderer: TabletopRenderer) -> None:
        spec = robot.spec
        self._steps = round(spec.dt_s / STEP_S)
        if self._steps % STEPS_AT_ONCE or abs(self._steps * STEP_S - spec.dt_s) > 1e-9:
            step_ms = 1e3 * STEP_S * STEPS_AT_ONCE
            raise ActionError(f"'{spec.embodiment}' acts at {spec.fps:g} Hz; expected a multiple of {step_ms:g} ms")
        if len(spec.cameras) != 1:
            raise ActionError(f"'{spec.embodiment}' has the cameras {list(spec.cameras)}; expected the head's alone")
        self._robot, self._spec, self._renderer = robot, spec, renderer
        self._kinematics = Kinematics(robot.mjcf)
        settings = ReachSettings(max_target_age_s=MOST_SECONDS)
        self._head = ReachHead(spec, self._kinematics, robot.arms, settings, robot.rest)
        self._hover_m = settings.hover_m
        self._columns = [JOINTS.index(joint) for joint in spec.state]
        self.distance_m = float("nan")
        """From the nearer hand to where it should hover, at the end of the last episode."""

    def reach(self, scene: Scene, index: int) -> Iterator[tuple[Observation, NDArray[np.float64], str]]:
        """Reach for one object of a scene; yields (observation, action [A], label) in each action period.

        Raises:
            ActionError: the object is out of reach, or the gate refused what was done.
        """
        spec, thing, head = self._spec, scene.objects[index], self._head
        world, gate, queue = World(scene), Gate(spec), ChunkQueue(spec)
        label, top = name(thing.shape, thing.colour), (thing.x_m, thing.y_m, TABLE_TOP_M + thing.height_m)
        target, now_ns = Target(label, top, 0), 0
        observation = self._observe(world, now_ns, target)
        refuse(gate.open(spec.positions_from_state(observation.state), now_ns))
        head.reset(observation)
        while now_ns < MOST_SECONDS * NS:
            plan = queue.plan
            if plan is None or (not plan.done and queue.left_s(now_ns) * spec.fps <= spec.horizon - spec.execute):
                chunk = head.predict(observation, queue.prefix(now_ns), 0)
                refuse(gate.check(chunk, now_ns))
                assert gate.last is not None
                queue.push(chunk, now_ns, gate.last)
            elif plan.done and queue.left_s(now_ns) <= 0:
                break
            now_ns += spec.dt_ns
            wanted = queue.at(now_ns)
            assert wanted is not None
            command = gate.command(wanted, now_ns)
            if isinstance(command, Verdict):
                refuse(command)
                break
            yield observation, command, label
            world.set_trajectory(Trajectory.checked(spec.joint_names, [spec.dt_s], [command]))
            for _ in range(self._steps // STEPS_AT_ONCE):
                world.step(STEPS_AT_ONCE)
            observation = self._observe(world, now_ns, target)
        posture = dict(zip(JOINTS, world.joint_states().positions.tolist(), strict=True))
        goal = np.array(top) + np.array([0.0, 0.0, self._hover_m])
        hands = (self._kinematics.site(arm.site, posture).position for arm in self._robot.arms)
        self.distance_m = min(float(np.linalg.norm(hand - goal)) for hand in hands)

    def _observe(self, world: World, now_ns: int, target: Target) -> Observation:
        state = world.joint_states().positions[self._columns].astype(np.float32)
        image = render_snapshot(self._renderer, world.snapshot()).image
        (camera,) = self._spec.cameras
        return Observation(state, now_ns, {camera: image}, {camera: now_ns}, f"pick the {target.label}", target)


def refuse(verdict: Verdict | None) -> None:
    """Raise what the gate refused."""
    if verdict is not None:
        raise ActionError(f"{verdict.reason.value}: {verdict.message}")


def record(writer: DatasetWriter, teacher: Teacher, episodes: int, seed: int) -> Iterator[str]:
    """Record until the writer holds `episodes` more; yields a line for each scene.

    Scenes follow one another by their number, from `seed` plus the episodes that the writer holds: a continued dataset
    goes on where it was; where scenes had been left out, as many of the last ones come again.
    """
    options = SceneOptions((3, 6), person_share=0.0, obstacle_share=0.0, camera_jitter=0.0)
    wanted, number = writer.episodes + episodes, seed + writer.episodes
    while writer.episodes < wanted:
        scene = sample_scene(np.random.default_rng(number), options)
        try:
            for observation, action, label in teacher.reach(scene, number % len(scene.objects)):
                writer.add_frame(observation, action, decision=label)
            index = writer.save_episode()
            yield f"episode {index}: {label}, hand {1e3 * teacher.distance_m:.1f} mm from its goal"
        except ActionError as error:
            writer.discard_episode()
            yield f"scene {number} left out: {error}"
        number += 1


@ends_with_its_reader
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.training.episodes", description=__doc__)
    parser.add_argument("out", type=Path, help="directory of the dataset; continued where it exists")
    parser.add_argument("--episodes", type=whole(1), default=3)
    parser.add_argument("--robot", type=Path, help=f"robot file; default: the package's {ROBOT_FILE}")
    parser.add_argument("--width", type=whole(1), default=320)
    parser.add_argument("--height", type=whole(1), default=240)
    parser.add_argument("--seed", type=whole(0), default=0, help="of the first scene; later episodes go on from there")
    options = parser.parse_args(arguments)
    try:
        robot = load_robot(options.robot or share_path(ROBOT_FILE), robot_mjcf)
        with TabletopRenderer(options.width, options.height, samples=0) as renderer:
            teacher = Teacher(robot, renderer)
            shapes = dict.fromkeys(robot.spec.cameras, (options.height, options.width))
            writer = DatasetWriter(options.out, robot.spec, shapes)
            try:
                for line in record(writer, teacher, options.episodes, options.seed):
                    print(line, flush=True)
            finally:
                writer.close()
    except ExaoneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
