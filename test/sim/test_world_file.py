"""World files: what they say is what the simulator shows, and what they get wrong is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from exaone_ros.errors import SimulationError
from exaone_ros.share import share_path
from exaone_ros.sim.live import LiveSettings
from exaone_ros.sim.scene import Scene
from exaone_ros.sim.world_file import load_world, parse_world, world_names


def test_shipped_worlds_load() -> None:
    assert {"blocked", "empty", "tabletop"} <= set(world_names())
    for name in world_names():
        assert isinstance(load_world(name), Scene)
    assert len(load_world("tabletop").objects) == 5 and load_world("blocked").person is not None


def test_the_shipped_tabletop_shows_every_key_with_its_default() -> None:
    """So the file that people copy is complete and true."""
    text = share_path("worlds/tabletop.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    scene, bare = parse_world(text), parse_world("")
    for section in ("light", "camera", "surroundings"):
        kind = type(getattr(scene, section))
        assert list(data[section]) == [field.name for field in dataclasses.fields(kind)]
        assert getattr(scene, section) == getattr(bare, section)
    assert list(data) == ["objects", "obstacle", "person", "light", "camera", "surroundings"]
    full = data["objects"][-1]
    assert set(full) == {field.name for field in dataclasses.fields(scene.objects[-1])}
    shortened = {key: full[key] for key in ("shape", "colour", "x_m", "y_m")}
    assert parse_world(yaml.safe_dump({"objects": [shortened]})).objects == (scene.objects[-1],)
    for comment, kind in (("obstacle: null", "Obstacle"), ("person: null", "Person")):
        line = next(line for line in text.splitlines() if line.startswith(comment))
        fields = {"Obstacle": load_world("blocked").obstacle, "Person": load_world("blocked").person}[kind]
        assert fields is not None
        assert all(field.name in line for field in dataclasses.fields(fields)), line


def test_values_arrive_where_they_belong() -> None:
    scene = parse_world("""
objects: [{shape: ball, colour: blue, x_m: 0.5, y_m: 0.1, radius_m: 0.04}]
obstacle: {kind: crate, x_m: 0.4, y_m: -0.2, size_m: [0.1, 0.2, 0.1]}
camera: {pan_rad: 0.2, fovy_deg: 60}
light: {key: 0, fill: 0, ambient: 0.7}
""")
    (ball,) = scene.objects
    assert (ball.radius_m, ball.height_m, ball.yaw_rad) == (0.04, 0.08, 0.0)
    assert scene.obstacle is not None and scene.obstacle.kind == "crate" and scene.obstacle.size_m == (0.1, 0.2, 0.1)
    assert (scene.camera.pan_rad, scene.camera.fovy_deg, scene.light.ambient) == (0.2, 60.0, 0.7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("objcts: []", ["unknown key 'objcts'", "did you mean 'objects'"]),
        ("objects: [{shape: cube, color: red, x_m: 0.5, y_m: 0}]", ["objects[0]", "'color'", "did you mean 'colour'"]),
        ("objects: [{shape: cube, colour: rde, x_m: 0.5, y_m: 0}]", ["objects[0].colour", "did you mean 'red'"]),
        ("objects: [{colour: red, x_m: 0.5, y_m: 0}]", ["objects[0].shape", "None"]),
        ("objects: [{shape: cube, colour: red, x_m: 0.5}]", ["objects[0]", "no 'y_m'"]),
        ("objects: [{shape: cube, colour: red, x_m: .nan, y_m: 0}]", ["objects[0].x_m", "nan"]),
        ("objects: [{shape: cube, colour: red, x_m: .inf, y_m: 0}]", ["objects[0].x_m", "inf"]),
        ("objects: [{shape: cube, colour: red, x_m: here, y_m: 0}]", ["objects[0].x_m", "'here'"]),
        ("objects: [{shape: cube, colour: red, x_m: true, y_m: 0}]", ["objects[0].x_m", "True"]),
        ("objects: [{shape: cube, colour: red, x_m: 0.5, y_m: 0, height_m: 0.1}]", ["as high as wide"]),
        ("objects: [{shape: ball, colour: red, x_m: 0.5, y_m: 0, radius_m: 0.1}]", ["objects[0]", "0.042"]),
        ("objects: [{shape: mug, colour: red, x_m: 0.5, y_m: 0, radius_m: 0.03}]", ["objects[0]", "mug"]),
        ("objects: [7]", ["objects[0] is 7"]),
        ("objects: {shape: cube}", ["objects", "a list"]),
        ("objects: [" + "{}, " * 11 + "]", ["11 entries", "at most 10"]),
        ("light: {key: 2}", ["light.key is 2", "0 to 1"]),
        ("camera: {tilt_rad: 3}", ["camera.tilt_rad is 3"]),
        ("camera: {sway_m: [0, 0]}", ["camera.sway_m", "list of 3"]),
        ("surroundings: {table: oaks}", ["surroundings.table", "did you mean 'oak'"]),
        ("obstacle: {kind: wall, x_m: 0.5, y_m: 0}", ["obstacle.kind", "carton, crate"]),
        ("person: {x_m: 1.3, y_m: 0, arms_rad: [0, 0, 0]}", ["person.arms_rad", "list of 4"]),
        ("light: {key: 0.1, key: 0.2}", ["'key' stands twice"]),
        ("objects: [", ["not valid YAML"]),
        ("- 1", ["the file is [1]"]),
        ("!!python/object:os.system {}", ["not valid YAML"]),
    ],
)
def test_what_is_wrong_is_named(text: str, words: list[str]) -> None:
    with pytest.raises(SimulationError) as caught:
        parse_world(text, "my.yaml")
    assert str(caught.value).startswith("my.yaml")
    for word in words:
        assert word in str(caught.value)


def test_unknown_world_and_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="did you mean 'tabletop'"):
        load_world("tabeltop")
    with pytest.raises(SimulationError, match="is no file; the package's own worlds are blocked"):
        load_world(tmp_path / "mine.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SimulationError, match="cannot be read"):
        load_world(binary)


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("person: {x_m: 1.4, y_m: 0.1}", encoding="utf-8")
    person = load_world(mine).person
    assert person is not None and person.x_m == 1.4


def test_the_live_world_starts_with_the_file() -> None:
    world = load_world("tabletop")
    assert LiveSettings(world=world).scene(0) is world
    with pytest.raises(SimulationError, match="scene_period_s"):
        LiveSettings(world=world, scene_period_s=2.0)
