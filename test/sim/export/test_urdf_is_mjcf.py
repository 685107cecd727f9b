"""The URDF is the robot of MuJoCo: as its own reader sees it, as a parser of ROS sees it, and as MuJoCo loads it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from typing import Any
from xml.etree.ElementTree import Element

import mujoco
import numpy as np
import pytest
import yaml
from support.sdf_reader import compose, floats, frame_of, origin_of, tensor_of, urdf_links

from exaone_ros.share import share_path
from exaone_ros.sim.humanoid import JOINTS
from exaone_ros.sim.model import TabletopModel
from exaone_ros.sim.world_file import load_world

PATH = "description/exaone_humanoid.urdf"
MESH = "description/meshes/unit_ball.obj"


@pytest.fixture(scope="module")
def robot() -> Element:
    return ElementTree.parse(share_path(PATH)).getroot()


def posture(tabletop: TabletopModel, seed: int) -> dict[str, float]:
    tabletop.apply(load_world("empty"))
    rng = np.random.default_rng(seed)
    values = {joint: float(rng.uniform(*tabletop.model.joint(joint).range)) for joint in JOINTS}
    for joint, value in values.items():
        tabletop.data.joint(joint).qpos[0] = value
    mujoco.mj_kinematics(tabletop.model, tabletop.data)
    mujoco.mj_camlight(tabletop.model, tabletop.data)
    return values


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_link_and_both_camera_frames_are_where_mujoco_has_them(
    robot: Element, tabletop: TabletopModel, seed: int
) -> None:
    frames = urdf_links(robot, posture(tabletop, seed))
    model, data = tabletop.model, tabletop.data
    for body in range(model.nbody):
        if model.body_rootid[body] == model.body("pelvis").id:
            position, matrix = frames[model.body(body).name]
            assert np.allclose(position, data.xpos[body], atol=5e-6)
            assert np.allclose(matrix, data.xmat[body].reshape(3, 3), atol=5e-6)
    position, optical = tabletop.camera_pose()
    assert np.allclose(frames["head_camera_optical_frame"][0], position, atol=5e-6)
    assert np.allclose(frames["head_camera_optical_frame"][1], optical.T, atol=5e-6)
    ahead = frames["head_camera_link"][1][:, 0]
    assert np.allclose(ahead, optical[2], atol=5e-6)


def test_limits_efforts_and_inertias(robot: Element, tabletop: TabletopModel) -> None:
    model = tabletop.model
    moving = {j.attrib["name"]: j for j in robot.findall("joint") if j.attrib["type"] != "fixed"}
    assert set(moving) == set(JOINTS)
    for name, joint in moving.items():
        limit, dynamics = joint.find("limit"), joint.find("dynamics")
        assert limit is not None and dynamics is not None
        assert [float(limit.attrib[end]) for end in ("lower", "upper")] == pytest.approx(list(model.joint(name).range))
        assert float(limit.attrib["effort"]) == pytest.approx(model.actuator_forcerange[model.actuator(name).id][1])
        dof = model.joint(name).dofadr[0]
        assert float(dynamics.attrib["damping"]) == pytest.approx(model.dof_damping[dof])
    for link in robot.findall("link"):
        inertial, name = link.find("inertial"), link.attrib["name"]
        if name in ("world", "base_link", "head_camera_link", "head_camera_optical_frame"):
            assert inertial is None
            continue
        assert inertial is not None
        mass, inertia = inertial.find("mass"), inertial.find("inertia")
        assert mass is not None and inertia is not None
        tensor = tensor_of(inertia)
        assert_physical(tensor, name)
        if name.endswith("_link") and name.removesuffix("_link") in JOINTS:
            continue  # between two joints of one body
        body = model.body(name)
        assert float(mass.attrib["value"]) == pytest.approx(float(body.mass[0]), rel=1e-5)
        centre = compose(frame_of(np.zeros(6)), origin_of(inertial))
        assert np.allclose(centre[0], body.ipos, atol=5e-6)
        principal = np.sort(np.linalg.eigvalsh(tensor))
        assert np.allclose(principal, np.sort(body.inertia), atol=1e-5 * body.inertia.max())


def assert_physical(tensor: Any, what: str) -> None:
    """An inertia that a rigid body can have: positive, and no moment larger than the sum of the other two."""
    a, b, c = np.sort(np.linalg.eigvalsh(tensor))
    assert a > 0 and a + b >= c * (1 - 1e-6), what


def test_velocities_allow_what_the_action_head_commands(robot: Element) -> None:
    text = share_path("config/tabletop_humanoid.yaml").read_text(encoding="utf-8")
    limits = {j.attrib["name"]: j.find("limit") for j in robot.findall("joint")}
    for joint, velocity in yaml.safe_load(text)["joints"].items():
        limit = limits[joint]
        assert limit is not None and velocity <= float(limit.attrib["velocity"])


def test_mujoco_loads_it_and_finds_the_same_places(tabletop: TabletopModel) -> None:
    """A third reading, of the whole file with its meshes, by the simulator itself."""
    text = share_path(PATH).read_text(encoding="utf-8")
    keep = '<mujoco><compiler fusestatic="false" discardvisual="false"/></mujoco>'
    text = text.replace('<robot name="exaone_humanoid">', f'<robot name="exaone_humanoid">{keep}')
    loaded = mujoco.MjModel.from_xml_string(text, {"unit_ball.obj": share_path(MESH).read_bytes()})
    data = mujoco.MjData(loaded)
    assert loaded.njnt == len(JOINTS)
    for joint, value in posture(tabletop, 5).items():
        assert loaded.joint(joint).range == pytest.approx(tabletop.model.joint(joint).range)
        data.joint(joint).qpos[0] = value
    mujoco.mj_kinematics(loaded, data)
    for body in range(tabletop.model.nbody):
        if tabletop.model.body_rootid[body] == tabletop.model.body("pelvis").id:
            found = data.body(tabletop.model.body(body).name)
            assert np.allclose(found.xpos, tabletop.data.xpos[body], atol=1e-5)
            assert np.allclose(found.xmat, tabletop.data.xmat[body], atol=1e-5)
    ends = [f"{side}_{part}" for side in ("left", "right") for part in ("hand_link", "foot_link")]
    assert all(end in {loaded.body(b).name for b in range(loaded.nbody)} for end in ends)


def test_a_parser_of_ros_finds_nothing_to_complain_about() -> None:
    parser = pytest.importorskip("urdf_parser_py.urdf")
    complaints: list[str] = []
    parser.xmlr.core.on_error = complaints.append
    model = parser.URDF.from_xml_file(str(share_path(PATH)))
    assert complaints == []
    assert model.get_root() == "world"
    assert [joint for joint in model.joint_map if model.joint_map[joint].type != "fixed"] != []
    chain = model.get_chain("world", "head_camera_optical_frame", links=False)
    assert chain == [
        "world_mount", "pelvis_mount", "waist_yaw", "waist_pitch", "head_pan", "head_tilt",
        "head_camera_mount", "head_camera_optical_mount",
    ]  # fmt: skip
    for name, joint in model.joint_map.items():
        joint.check_valid()
        assert name in JOINTS or joint.type == "fixed"


def test_names_are_unique_and_fit_for_tf(robot: Element) -> None:
    for tag in ("link", "joint"):
        names = [element.attrib["name"] for element in robot.findall(tag)]
        assert len(names) == len(set(names))
        assert all(name.replace("_", "").isalnum() and not name.startswith("/") for name in names)
    materials: dict[str, str] = {}
    for material in robot.iter("material"):
        colour = material.find("color")
        assert colour is not None  # one name, one colour: RViz takes the first for all
        assert np.allclose(
            floats(materials.setdefault(material.attrib["name"], colour.attrib["rgba"])), floats(colour.attrib["rgba"])
        )


def test_shapes_cover_what_mujoco_draws(robot: Element, tabletop: TabletopModel) -> None:
    """Volume by volume: URDF's substitutes for capsules and ellipsoids are as large as what they stand for."""
    model, kinds = tabletop.model, mujoco.mjtGeom
    for link in robot.findall("link"):
        name = link.attrib["name"]
        if name in ("world", "base_link") or not link.findall("visual"):
            continue
        body = int(model.body(name).id)
        expected = 0.0
        for g in [g for g in range(model.ngeom) if model.geom_bodyid[g] == body]:
            x, y, z = model.geom_size[g]
            expected += {
                int(kinds.mjGEOM_BOX): 8 * x * y * z,
                int(kinds.mjGEOM_SPHERE): 4 / 3 * math.pi * x**3,
                int(kinds.mjGEOM_CAPSULE): 2 * math.pi * x * x * y + 4 / 3 * math.pi * x**3,
                int(kinds.mjGEOM_ELLIPSOID): 4 / 3 * math.pi * x * y * z,
            }[int(model.geom_type[g])]
        found, ends = 0.0, 0
        for visual in link.findall("visual"):
            geometry = visual.find("geometry")
            assert geometry is not None
            (shape,) = geometry
            a = shape.attrib
            if shape.tag == "box":
                found += float(np.prod(floats(a["size"])))
            elif shape.tag == "cylinder":
                found += math.pi * float(a["radius"]) ** 2 * float(a["length"])
            elif shape.tag == "sphere":
                half = "_end_" in visual.attrib["name"]  # half of such a ball lies in the cylinder
                ends += half
                found += 4 / 3 * math.pi * float(a["radius"]) ** 3 * (0.5 if half else 1.0)
            else:
                assert a["filename"] == "package://exaone_ros/description/meshes/unit_ball.obj"
                found += 4 / 3 * math.pi * float(np.prod(floats(a["scale"])))
        assert found == pytest.approx(expected, rel=1e-4), name
        assert ends % 2 == 0
