"""Worlds as YAML files: what stands where on the table, under which light, seen by which camera.

The keys are the attributes of `scene`'s classes; worlds/tabletop.yaml shows all of them. Whatever a file leaves out has
a default; whatever it says that nobody reads is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from exaone_ros.errors import ExaoneError, SimulationError
from exaone_ros.share import share_path
from exaone_ros.sim import textures
from exaone_ros.sim.humanoid import PAN_RANGE_RAD, TILT_RANGE_RAD
from exaone_ros.sim.mjcf import OBSTACLE_BOUND_M, POOL_SIZE
from exaone_ros.sim.placement import check_placement
from exaone_ros.sim.scene import (
    CARTON,
    MUG_SIZES_M,
    OBSTACLE_KINDS,
    HeadCamera,
    Light,
    Obstacle,
    Person,
    Scene,
    Surroundings,
    TableObject,
)
from exaone_ros.sim.vocabulary import COLOURS, RGB, SHAPES

SIZES_M: dict[str, tuple[float, float]] = {
    "cube": (0.035, 0.070),
    "ball": (0.036, 0.072),
    "cylinder": (0.033, 0.115),
    "mug": MUG_SIZES_M[1],
}
"""(radius or half edge, height) of an object whose file does not say."""
MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class _Number:
    """A number or, with `count`, a list of that many: what is allowed, and what stands for it where it is missing."""

    low: float
    high: float
    default: float | tuple[float, ...] | None = None
    count: int = 0

    def read(self, value: object, where: str) -> float | tuple[float, ...]:
        if not self.count:
            return self._one(value, where)
        if not isinstance(value, list) or len(value) != self.count:
            raise SimulationError(f"{where} is {value!r}; expected a list of {self.count} numbers")
        return tuple(self._one(item, f"{where}[{index}]") for index, item in enumerate(value))

    def _one(self, value: object, where: str) -> float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or not self.low <= float(value) <= self.high:  # type: ignore[arg-type]
            raise SimulationError(f"{where} is {value!r}; expected a number from {self.low:g} to {self.high:g}")
        return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Choice:
    """One of some texts."""

    choices: tuple[str, ...]
    default: str | None = None

    def read(self, value: object, where: str) -> str:
        if value not in self.choices:
            hint = _did_you_mean(value, self.choices)
            raise SimulationError(f"{where} is {value!r}; expected one of {', '.join(self.choices)}{hint}")
        return str(value)


_Field = _Number | _Choice
_ANGLE = _Number(-2 * math.pi, 2 * math.pi, 0.0)


def _rgb(red: float, green: float, blue: float) -> _Number:
    return _Number(0.0, 1.0, (red, green, blue), 3)


def _place(x_m: float | None = None, y_m: float | None = None) -> dict[str, _Field]:
    return {"x_m": _Number(-10.0, 10.0, x_m), "y_m": _Number(-10.0, 10.0, y_m), "yaw_rad": _ANGLE}


_OBJECT: dict[str, _Field] = {
    "shape": _Choice(SHAPES),
    "colour": _Choice(COLOURS),
    **_place(),
    "radius_m": _Number(0.01, 0.2),
    "height_m": _Number(0.01, 0.4),
    "rgb": _Number(0.0, 1.0, count=3),
}
_OBSTACLE: dict[str, _Field] = {
    "kind": _Choice(OBSTACLE_KINDS, CARTON),
    **_place(),
    "size_m": _Number(0.04, 2 * OBSTACLE_BOUND_M, (0.12, 0.20, 0.12), 3),
    "rgb": _rgb(0.68, 0.52, 0.35),
}
_PERSON: dict[str, _Field] = {
    **_place(),
    "raise_m": _Number(-0.3, 0.3, 0.0),
    "arms_rad": _Number(-math.pi, math.pi, (0.2, 0.4, 0.2, 0.4), 4),
    "shirt": _rgb(0.35, 0.42, 0.50),
    "trousers": _rgb(0.18, 0.21, 0.30),
    "skin": _rgb(0.78, 0.58, 0.44),
    "hair": _rgb(0.10, 0.08, 0.07),
}
_LIGHT: dict[str, _Field] = {
    "azimuth_rad": _Number(-2 * math.pi, 2 * math.pi, 2.4),
    "elevation_rad": _Number(0.1, math.pi / 2, 1.1),
    "key": _Number(0.0, 1.0, 0.5),
    "fill": _Number(0.0, 1.0, 0.12),
    "ambient": _Number(0.0, 1.0, 0.38),
    "tint": _Number(0.0, 2.0, (1.0, 1.0, 1.0), 3),
}
_CAMERA: dict[str, _Field] = {
    "pan_rad": _Number(*PAN_RANGE_RAD, 0.0),
    "tilt_rad": _Number(*TILT_RANGE_RAD, 0.72),
    "fovy_deg": _Number(20.0, 120.0, 48.0),
    "sway_m": _Number(-0.1, 0.1, (0.0, 0.0, 0.0), 3),
}
_SURROUNDINGS: dict[str, _Field] = {
    "table": _Choice(tuple(textures.TABLES), "oak"),
    "table_tint": _rgb(0.94, 0.94, 0.94),
    "floor": _Choice(tuple(textures.FLOORS), "concrete"),
    "floor_tint": _rgb(0.92, 0.92, 0.92),
    "wall": _rgb(0.78, 0.76, 0.72),
}
_SECTIONS = ("objects", "obstacle", "person", "light", "camera", "surroundings")


def world_names() -> tuple[str, ...]:
    """Names of the worlds that ship with the package."""
    return tuple(sorted(path.stem for path in share_path("worlds").glob("*.yaml")))


def load_world(name_or_path: str | Path) -> Scene:
    """Read a world.

    Args:
        name_or_path: name of a world that ships with the package (``tabletop``), or path of a YAML file.

    Raises:
        SimulationError: there is no such world, or what the file says is not valid; names file and key.
    """
    path = _find(str(name_or_path))
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SimulationError(f"world '{path}' has {path.stat().st_size} bytes; expected {MAX_FILE_BYTES} at most")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SimulationError(f"world '{path}' cannot be read: {error}") from error
    return parse_world(text, str(path))


def parse_world(text: str, source: str = "world") -> Scene:
    """Read a world from the text of a YAML file.

    Args:
        text: of the file.
        source: what error messages call it.

    Raises:
        SimulationError: not YAML, an unknown key, a value out of range, a thing inside another; names source and key.
    """
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SimulationError(f"{source} is not valid YAML: {error}") from error
    try:
        scene = _scene({} if data is None else data)
        check_placement(scene)
    except SimulationError as error:
        raise SimulationError(f"{source}: {error}") from error
    return scene


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise SimulationError(f"world '{path}' is no file; the package's own worlds are {', '.join(world_names())}")
        return path
    try:
        return share_path(f"worlds/{name_or_path}.yaml")
    except ExaoneError as error:
        known = world_names()
        raise SimulationError(
            f"world '{name_or_path}' does not exist; expected one of {', '.join(known)} or the path of a YAML file"
            f"{_did_you_mean(name_or_path, known)}"
        ) from error


def _scene(data: object) -> Scene:
    sections = _mapping(data, "the file", _SECTIONS)
    objects = sections.get("objects") or []
    if not isinstance(objects, list) or len(objects) > POOL_SIZE:
        found = f"{len(objects)} entries" if isinstance(objects, list) else repr(objects)
        raise SimulationError(f"objects is {found}; expected a list of at most {POOL_SIZE}")
    return Scene(
        objects=tuple(_object(entry, f"objects[{index}]") for index, entry in enumerate(objects)),
        person=_optional(Person, sections.get("person"), "person", _PERSON),
        obstacle=_optional(Obstacle, sections.get("obstacle"), "obstacle", _OBSTACLE),
        light=Light(**_values(sections.get("light") or {}, "light", _LIGHT)),
        camera=HeadCamera(**_values(sections.get("camera") or {}, "camera", _CAMERA)),
        surroundings=Surroundings(**_values(sections.get("surroundings") or {}, "surroundings", _SURROUNDINGS)),
    )


def _object(entry: object, where: str) -> TableObject:
    given = _mapping(entry, where, tuple(_OBJECT))
    shape = _OBJECT["shape"].read(given.get("shape"), f"{where}.shape")
    colour = _OBJECT["colour"].read(given.get("colour"), f"{where}.colour")
    radius, height = SIZES_M[str(shape)]
    if "radius_m" in given and shape in ("cube", "ball"):  # as high as wide, unless both are given
        radius = float(_OBJECT["radius_m"].read(given["radius_m"], f"{where}.radius_m"))  # type: ignore[arg-type]
        height = 2 * radius
    values = _values({"radius_m": radius, "height_m": height, "rgb": list(RGB[str(colour)]), **given}, where, _OBJECT)
    if shape in ("cube", "ball") and not math.isclose(values["height_m"], 2 * values["radius_m"], abs_tol=1e-6):
        raise SimulationError(
            f"{where}.height_m is {values['height_m']:g}; expected twice its radius_m, {2 * values['radius_m']:g}: "
            f"a {shape} is as high as wide"
        )
    size = (values["radius_m"], values["height_m"])
    if shape == "mug" and size not in MUG_SIZES_M:
        raise SimulationError(f"{where} is a mug of (radius_m, height_m) {size}; expected one of {MUG_SIZES_M}")
    try:
        return TableObject(**values)
    except SimulationError as error:
        raise SimulationError(f"{where}: {error}") from error


def _optional(make: Callable[..., Any], entry: object, where: str, fields: Mapping[str, _Field]) -> Any:
    return None if entry is None else make(**_values(entry, where, fields))


def _values(entry: object, where: str, fields: Mapping[str, _Field]) -> dict[str, Any]:
    """Each field's value from the file or, where the file does not have it, its default."""
    given = _mapping(entry, where, tuple(fields))
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in given:
            values[key] = field.read(given[key], f"{where}.{key}")
        elif field.default is None:
            raise SimulationError(f"{where} has no '{key}'; it needs one")
        else:
            values[key] = field.default
    return values


def _mapping(entry: object, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise SimulationError(f"{where} is {entry!r}; expected keys and values, of {', '.join(known)}")
    for key in entry:
        if key not in known:
            hint = _did_you_mean(key, known) or f"; expected some of {', '.join(known)}"
            raise SimulationError(f"{where} has the unknown key {key!r}{hint}")
    return entry


def _did_you_mean(word: object, known: tuple[str, ...]) -> str:
    near = get_close_matches(str(word), known, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would silently take the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)
