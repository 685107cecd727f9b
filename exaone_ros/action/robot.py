"""The robot file: what the action head may command and with which hand it reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exaone_ros.action.heads.reach import Arm
from exaone_ros.action.kinematics import Kinematics
from exaone_ros.action.spec import ActionSpec, Joint
from exaone_ros.errors import ActionError, ExaoneError
from exaone_ros.share import share_path

DEFAULT_ROBOT = "config/tabletop_humanoid.yaml"
_KEYS = {
    "extends", "embodiment", "fps", "horizon", "execute", "model", "joints", "slices", "cameras", "camera", "arms",
    "rest",
}  # fmt: skip


@dataclass(frozen=True)
class Robot:
    """A robot as the action head sees it.

    Attributes:
        spec: its action space; position limits are those of the model.
        mjcf: its model.
        arms: that can reach.
        camera: name of the model's camera that detections come from.
        camera_topics: camera of the spec -> topic of its images.
        rest: posture to prefer.
    """

    spec: ActionSpec
    mjcf: str
    arms: tuple[Arm, ...]
    camera: str
    camera_topics: Mapping[str, str]
    rest: Mapping[str, float]


def load_robot(path: Path | None = None, bundled_model: Callable[[], str] | None = None) -> Robot:
    """Read a robot file.

    A file may say `extends: OTHER`, a path from its own folder: its entries then stand in place of the other's.

    Args:
        path: of the file; None = the bundled humanoid's.
        bundled_model: gives the MJCF that stands for an empty `model`; the simulator knows it, this room does not.

    Raises:
        ActionError: names the file and what is wrong in it.
        MissingExtra: MuJoCo is not installed.
    """
    path = path or share_path(DEFAULT_ROBOT)
    entries = _extended(path)
    try:
        return _robot(entries, bundled_model)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        missing = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise ActionError(f"robot file {path}: {missing}") from error
    except ExaoneError as error:
        raise ActionError(f"robot file {path}: {error}") from error


def _extended(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What stands in a robot file and in those that it extends; `model` is a path from anywhere."""
    if path.resolve() in above:
        raise ActionError(f"robot file {above[0]} extends {path}, which extends it in turn; expected an end of it")
    entries = _entries(path)
    if entries.get("model"):
        entries["model"] = str(path.parent / Path(str(entries["model"])).expanduser())
    if "extends" not in entries:
        return entries
    return _extended(path.parent / str(entries.pop("extends")), (*above, path.resolve())) | entries


def _entries(path: Path) -> dict[str, Any]:
    """What stands in a robot file, its keys checked."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ActionError(f"robot file {path} cannot be read: {error}") from error
    if not isinstance(entries, dict) or set(entries) - _KEYS:
        unknown = sorted(set(entries) - _KEYS) if isinstance(entries, dict) else entries
        raise ActionError(f"robot file {path} holds {unknown!r}; expected the keys {', '.join(sorted(_KEYS))}")
    return entries


def _robot(entries: Mapping[str, Any], bundled_model: Callable[[], str] | None) -> Robot:
    mjcf = _model(str(entries.get("model") or ""), bundled_model)
    kinematics = Kinematics(mjcf)
    joints = tuple(
        Joint(name, *kinematics.limits(name), float(velocity)) for name, velocity in entries["joints"].items()
    )
    cameras = dict(entries.get("cameras") or {})
    spec = ActionSpec(
        embodiment=entries["embodiment"],
        fps=float(entries["fps"]),
        horizon=entries["horizon"],
        execute=entries["execute"],
        joints=joints,
        cameras=tuple(cameras),
        slices=tuple((name, start, stop) for name, (start, stop) in (entries.get("slices") or {}).items()),
    )
    arms = tuple(
        Arm(name, arm["site"], tuple(arm["joints"]), dict(arm.get("costs") or {}))
        for name, arm in (entries.get("arms") or {}).items()
    )
    for arm in arms:
        kinematics.site(arm.site, {})
    return Robot(spec, mjcf, arms, str(entries.get("camera", "")), cameras, dict(entries.get("rest") or {}))


def _model(name: str, bundled_model: Callable[[], str] | None) -> str:
    if not name:
        if bundled_model is None:
            raise ActionError("'model' is empty; expected the name of an MJCF file")
        return bundled_model()
    path = Path(name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ActionError(f"model {path} cannot be read: {error}") from error
