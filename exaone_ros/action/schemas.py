"""How others call the same things: LeRobot v3 datasets, openpi policies, GR00T.

Only names and shapes change here; values stay in physical units. Sources: LeRobot's dataset format v3.0; openpi's
`LiberoInputs`, `normalize.NormStats` and websocket policy; Isaac GR00T's "LeRobot compatible data schema".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exaone_ros.action.chunk import ActionChunk
from exaone_ros.action.observation import Observation
from exaone_ros.action.spec import ActionSpec
from exaone_ros.action.statistics import Statistics
from exaone_ros.errors import ActionError, DatasetError

STATE, ACTION, IMAGES, DECISION = "observation.state", "action", "observation.images.", "decision"
"""LeRobot's keys; images are ``observation.images.<camera>``. `decision` is our own: the choice that was acted on."""

ANNOTATION = "annotation.human.action.task_description"
"""GR00T's column for the instruction: an index into the tasks, like LeRobot's ``task_index``."""

_OPENPI_NAMES = {"state": STATE, "actions": ACTION}

# LeRobot


def lerobot_features(spec: ActionSpec, image_shapes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, Any]]:
    """The ``features`` of ``meta/info.json`` for what this package records, without LeRobot's own index columns.

    Args:
        spec: of the robot.
        image_shapes: (height, width) of each camera of the spec.

    Raises:
        DatasetError: a camera's shape is missing, or a name holds a slash.
    """
    features: dict[str, dict[str, Any]] = {
        STATE: {"dtype": "float32", "shape": [len(spec.state)], "names": list(spec.state)},
        ACTION: {"dtype": "float32", "shape": [len(spec.joints)], "names": list(spec.joint_names)},
        DECISION: {"dtype": "string", "shape": [1], "names": None},
        ANNOTATION: {"dtype": "int64", "shape": [1], "names": None},
    }
    for camera in spec.cameras:
        if camera not in image_shapes:
            raise DatasetError(f"camera '{camera}' of the spec has no image shape; got {sorted(image_shapes)}")
        if "/" in camera:
            raise DatasetError(f"camera '{camera}' holds '/', which LeRobot forbids in feature names; rename it")
        height, width = image_shapes[camera]
        features[IMAGES + camera] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
        }
    return features


def to_lerobot(observation: Observation, action: NDArray[np.float32] | None = None) -> dict[str, Any]:
    """One frame as LeRobot's policies and `add_frame` take it: images uint8 [H, W, 3], instruction under ``task``."""
    frame: dict[str, Any] = {STATE: np.asarray(observation.state), "task": observation.task}
    frame |= {IMAGES + camera: image for camera, image in observation.images.items()}
    if action is not None:
        frame[ACTION] = np.asarray(action, np.float32)
    return frame


def from_lerobot(item: Mapping[str, Any], stamp_ns: int = 0) -> Observation:
    """An observation out of an item of a LeRobot dataset (images float32 [3, H, W] in 0..1) or of `to_lerobot`.

    Raises:
        ActionError: the state is missing, or an image has neither of the two forms.
    """
    if STATE not in item:
        raise ActionError(f"LeRobot item has no '{STATE}'; has {sorted(item)}")
    images = {key[len(IMAGES) :]: _hwc(np.asarray(item[key]), key) for key in item if key.startswith(IMAGES)}
    state, task = np.atleast_1d(np.asarray(item[STATE])), str(item.get("task", ""))
    return Observation(state, stamp_ns, images, dict.fromkeys(images, stamp_ns), task=task)


def _hwc(image: NDArray[Any], key: str) -> NDArray[np.uint8]:
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    if np.issubdtype(image.dtype, np.floating) and image.ndim == 3 and image.shape[0] == 3:
        return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    shape = list(image.shape)
    raise ActionError(f"image '{key}' is {image.dtype} {shape}; expected uint8 [H, W, 3] or float [3, H, W] in 0..1")


# openpi


def to_openpi(observation: Observation, cameras: Mapping[str, str]) -> dict[str, Any]:
    """The dictionary that an openpi policy server takes.

    Args:
        observation: of the robot.
        cameras: our camera -> openpi's, e.g. ``{"head": "image", "right_wrist": "wrist_image"}``; it becomes
            ``observation/image`` and so on.

    Raises:
        ActionError: the observation lacks one of the cameras.
    """
    result: dict[str, Any] = {"observation/state": np.asarray(observation.state), "prompt": observation.task}
    for ours, theirs in cameras.items():
        if ours not in observation.images:
            raise ActionError(f"observation has no image of camera '{ours}'; has {sorted(observation.images)}")
        result[f"observation/{theirs}"] = observation.images[ours]
    return result


def from_openpi(spec: ActionSpec, observation: Observation, response: Mapping[str, Any], head: str) -> ActionChunk:
    """The chunk in an openpi server's response: ``actions`` [H, D] with D >= A, the rest being padding.

    Raises:
        ActionError: no actions, or too few.
    """
    actions = np.asarray(response.get("actions", []), np.float32)
    need = (spec.horizon, len(spec.joints))
    if actions.ndim != 2 or actions.shape[0] < need[0] or actions.shape[1] < need[1]:
        raise ActionError(f"openpi response has actions {list(actions.shape)}; expected at least {list(need)}")
    return ActionChunk.make(spec, observation, actions[: need[0], : need[1]], observation.stamp_ns, head)


def to_openpi_norm_stats(statistics: Mapping[str, Statistics]) -> str:
    """openpi's ``norm_stats.json`` out of a dataset's statistics: LeRobot's state and action become state and actions.

    Raises:
        DatasetError: one of the two is missing.
    """
    result = {}
    for theirs, ours in _OPENPI_NAMES.items():
        if ours not in statistics:
            raise DatasetError(f"statistics lack '{ours}'; have {sorted(statistics)}")
        result[theirs] = {key: getattr(statistics[ours], key).tolist() for key in ("mean", "std", "q01", "q99")}
    return json.dumps({"norm_stats": result}, indent=2)


def from_openpi_norm_stats(text: str) -> dict[str, Statistics]:
    """The inverse of `to_openpi_norm_stats`, keyed by LeRobot's names.

    Raises:
        DatasetError: it is not such a file.
    """
    try:
        entries = json.loads(text)["norm_stats"]
        return {ours: Statistics.from_json(entries[theirs], theirs) for theirs, ours in _OPENPI_NAMES.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"not openpi's norm_stats.json: {type(error).__name__}: {error}") from error


# GR00T


def gr00t_modality(spec: ActionSpec) -> dict[str, Any]:
    """GR00T's ``meta/modality.json``: which part of state and action is what, and how the videos are called.

    State entries are split by the same slices as actions where the state is exactly the joints; else it is one part.
    """
    slices = spec.slices or (("joints", 0, len(spec.joints)),)
    action = {name: {"start": start, "end": stop, "absolute": True} for name, start, stop in slices}
    if spec.state == spec.joint_names:
        state = {name: {"start": start, "end": stop} for name, start, stop in slices}
    else:
        state = {"state": {"start": 0, "end": len(spec.state)}}
    return {
        "state": state,
        "action": action,
        "video": {camera: {"original_key": IMAGES + camera} for camera in spec.cameras},
        "annotation": {ANNOTATION.removeprefix("annotation."): {}},
    }


def to_gr00t(spec: ActionSpec, observation: Observation) -> dict[str, Any]:
    """The dictionary that a GR00T policy takes: everything with a leading time axis of 1."""
    modality = gr00t_modality(spec)
    state = np.asarray(observation.state)
    result: dict[str, Any] = {
        f"state.{name}": state[None, part["start"] : part["end"]] for name, part in modality["state"].items()
    }
    result |= {f"video.{camera}": observation.images[camera][None] for camera in spec.cameras}
    result[ANNOTATION] = [observation.task]
    return result


def from_gr00t(spec: ActionSpec, observation: Observation, response: Mapping[str, Any], head: str) -> ActionChunk:
    """The chunk in a GR00T policy's response: ``action.<slice>`` [H, D] for each slice of the spec.

    Raises:
        ActionError: a slice is missing or has the wrong shape, or the slices do not cover the whole action.
    """
    actions = np.full((spec.horizon, len(spec.joints)), np.nan, np.float32)
    for name, part in gr00t_modality(spec)["action"].items():
        start, stop = part["start"], part["end"]
        values = np.asarray(response.get(f"action.{name}", []), np.float32)
        if values.ndim != 2 or values.shape[0] < spec.horizon or values.shape[1] != stop - start:
            expected = [spec.horizon, stop - start]
            raise ActionError(f"GR00T response has 'action.{name}' {list(values.shape)}; expected {expected}")
        actions[:, start:stop] = values[: spec.horizon]
    if np.isnan(actions).all(axis=0).any():
        joint = spec.joint_names[int(np.argmax(np.isnan(actions).all(axis=0)))]
        raise ActionError(f"spec '{spec.embodiment}': no slice covers joint '{joint}'; GR00T cannot command it")
    return ActionChunk.make(spec, observation, actions, observation.stamp_ns, head)
