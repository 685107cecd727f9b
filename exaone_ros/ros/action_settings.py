"""The parameters of the action head's node, and the heads they choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exaone_ros.action.gate import GateLimits
from exaone_ros.action.goal import RunnerLimits
from exaone_ros.action.heads.base import ActionHead
from exaone_ros.action.heads.flow import GRAPH, FlowCard, FlowHead
from exaone_ros.action.heads.plugin import plugin_head
from exaone_ros.action.heads.reach import ReachHead, ReachSettings
from exaone_ros.action.heads.scripted import HoldHead, ReplayHead, SineHead
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.robot import Robot, load_robot
from exaone_ros.ros.parameters import Parameter, ParameterError
from exaone_ros.share import share_path
from exaone_ros.sim.mjcf import robot_mjcf

PARAMETERS = (
    Parameter("robot_file", "", "YAML file of the robot; empty = the package's config/tabletop_humanoid.yaml."),
    Parameter("head", "reach", "What makes the actions; all of these are stubs for a policy, but plugin, which is "
              "yours.", choices=("hold", "sine", "replay", "reach", "flow", "plugin")),
    Parameter("head_plugin", "", "plugin: name of the head, as an installed package declares it (entry point of group "
              "exaone_ros.action.heads)."),
    Parameter("sine_joint", "", "sine: joint to swing; empty = the first one."),
    Parameter("sine_amplitude", 0.2, "sine: rad or m.", minimum=0.0001, maximum=3.0),
    Parameter("sine_frequency_hz", 0.25, "sine: swings per second.", unit="Hz", minimum=0.01, maximum=5.0),
    Parameter("replay_dataset", "", "replay: directory of a recorded dataset."),
    Parameter("replay_episode", 0, "replay: which episode, counted from 0.", minimum=0, maximum=10_000_000),
    Parameter("flow_head", "", "flow: directory of a trained head, with head.onnx and head.json."),
    Parameter("flow_model", "", "flow: checkpoint whose hidden states it reads; empty = the bundled one."),
    Parameter("flow_steps", 8, "flow: integration steps from noise to a chunk.", minimum=1, maximum=100),
    Parameter("table_height_m", 0.8, "reach: height of the plane that objects stand on, in the robot's base frame.",
              unit="m", minimum=-5.0, maximum=5.0),
    Parameter("speed_share", 0.6, "reach: share of the velocity limits that is used.", minimum=0.05, maximum=0.95),
    Parameter("joint_states_topic", "joint_states", "Topic of the measured joint positions."),
    Parameter("trajectory_topic", "joint_trajectory", "Topic of the commands, as a JointTrajectoryController takes "
              "them."),
    Parameter("detections_topic", "detections", "Topic of the boxes that targets are located by."),
    Parameter("decision_topic", "decision", "Topic of the decisions that goals without a target follow."),
    Parameter("camera_info_topic", "camera_info", "Topic of the projection of the camera of the detections."),
    Parameter("max_target_age_s", 2.0, "Age of the image that a goal's target was located on.", unit="s",
              minimum=0.05, maximum=60.0),
    Parameter("max_observation_age_s", 1.0, "Age of what a chunk was made from.", unit="s", minimum=0.05, maximum=60.0),
    Parameter("heartbeat_timeout_s", 0.5, "Silence of the heartbeat that ends a goal.", unit="s", minimum=0.05,
              maximum=10.0),
    Parameter("state_timeout_s", 0.25, "Silence of the joint states that ends a goal.", unit="s", minimum=0.02,
              maximum=10.0),
    Parameter("head_timeout_s", 2.0, "Longest time that the head may think.", unit="s", minimum=0.05, maximum=60.0),
    Parameter("starve_timeout_s", 0.5, "How long the plan may be at its end before a new chunk comes.", unit="s",
              minimum=0.05, maximum=60.0),
    Parameter("max_lag_s", 0.5, "How far the robot may be from its command, in seconds at full speed.", unit="s",
              minimum=0.05, maximum=10.0),
    Parameter("loop_priority", 50, "Real-time priority (SCHED_FIFO) of the control loop's thread, as ros2_control's; "
              "0 = none. Where the system does not permit it, the loop runs without, and diagnostics say so.",
              minimum=0, maximum=99),
    Parameter("autostart", True, "Configure and activate at start, without a lifecycle manager."),
)  # fmt: skip


@dataclass(frozen=True)
class ActionSettings:
    """What the node is configured with. Attributes: values of all parameters by name; the robot."""

    values: Mapping[str, Any]
    robot: Robot

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> ActionSettings:
        """Read the robot file.

        Raises:
            ExaoneError: names the file and what is wrong.
        """
        path = Path(values["robot_file"]).expanduser() if values["robot_file"] else None
        return cls(values, load_robot(path, robot_mjcf))

    @property
    def gate_limits(self) -> GateLimits:
        return GateLimits(
            max_observation_age_s=self.values["max_observation_age_s"], max_lag_s=self.values["max_lag_s"]
        )

    @property
    def runner_limits(self) -> RunnerLimits:
        return RunnerLimits(
            heartbeat_timeout_s=self.values["heartbeat_timeout_s"],
            state_timeout_s=self.values["state_timeout_s"],
            head_timeout_s=self.values["head_timeout_s"],
            starve_s=self.values["starve_timeout_s"],
        )

    @property
    def needs_target(self) -> bool:
        """True where a goal begins with locating an object."""
        return bool(self.values["head"] == "reach")

    def make_head(self) -> ActionHead:
        """The head that was chosen.

        Raises:
            ExaoneError: it cannot be made of these parameters.
        """
        values, robot = self.values, self.robot
        kind = values["head"]
        if kind == "hold":
            return HoldHead(robot.spec)
        if kind == "sine":
            joint = values["sine_joint"] or robot.spec.joint_names[0]
            return SineHead(robot.spec, joint, values["sine_amplitude"], values["sine_frequency_hz"])
        if kind == "replay":
            return self._replay()
        if kind == "flow":
            return self._flow()
        if kind == "plugin":
            if not values["head_plugin"]:
                raise ParameterError("head 'plugin' needs 'head_plugin', the name that a package declares it by")
            return plugin_head(values["head_plugin"], robot.spec)
        if not robot.arms:
            raise ParameterError(f"head 'reach' needs an arm; the robot file of '{robot.spec.embodiment}' has none")
        settings = ReachSettings(speed_share=values["speed_share"], max_target_age_s=values["max_target_age_s"])
        return ReachHead(robot.spec, Kinematics(robot.mjcf), robot.arms, settings, robot.rest)

    def _flow(self) -> FlowHead:
        from exaone_ros.engine.features import BUNDLED_MODEL, HIDDEN_STATES, features_like
        from exaone_ros.engine.loaded_graph import file_graph
        from exaone_ros.model.flow_graph import OUTPUT

        if not self.values["flow_head"]:
            raise ParameterError("head 'flow' needs 'flow_head', the directory of a trained head")
        directory = Path(self.values["flow_head"]).expanduser()
        card = FlowCard.read(directory)
        graph = file_graph(directory / GRAPH)
        named = self.values["flow_model"]
        model = Path(named).expanduser() if named else share_path(BUNDLED_MODEL)
        encode = features_like(card.features, model if card.features.get("kind") == HIDDEN_STATES else None)
        return FlowHead(
            card, self.robot.spec, lambda inputs: graph.run(inputs)[OUTPUT], encode, self.values["flow_steps"]
        )

    def _replay(self) -> ReplayHead:
        from exaone_ros.action.recorder.reader import DatasetReader

        if not self.values["replay_dataset"]:
            raise ParameterError("head 'replay' needs 'replay_dataset', the directory of a recorded dataset")
        dataset = DatasetReader(Path(self.values["replay_dataset"]).expanduser())
        if dataset.spec.joint_names != self.robot.spec.joint_names:
            raise ParameterError(
                f"dataset {dataset.root} commands {', '.join(dataset.spec.joint_names)}; this robot has "
                f"{', '.join(self.robot.spec.joint_names)}"
            )
        episode = dataset.episode(self.values["replay_episode"])
        return ReplayHead(self.robot.spec, episode.action, episode.fps)
