"""The SDF files say what MuJoCo simulates: every pose, size, colour, limit, gain, inertia, light and camera parameter.

The committed files are read here by code that shares nothing with the code that wrote them.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import mujoco
import numpy as np
import pytest
from support.sdf_reader import compose, floats, pose_of, sdf_links, tensor_of

from exaone_ros.share import share_path
from exaone_ros.sim.humanoid import HOME_RAD, JOINTS
from exaone_ros.sim.meshes import mug
from exaone_ros.sim.model import TabletopModel
from exaone_ros.sim.scene import MUG_SIZES_M
from exaone_ros.sim.vocabulary import label_of_number
from exaone_ros.sim.world_file import load_world, world_names

POSE_M, TURN = 5e-6, 5e-6
G = mujoco.mjtGeom


@pytest.fixture(scope="module")
def robot() -> Element:
    model = ElementTree.parse(share_path("description/exaone_humanoid.sdf")).getroot().find("model")
    assert model is not None
    return model


def elements(model: Element, tag: str) -> dict[str, Element]:
    return {element.attrib["name"]: element for element in model.iter(tag) if "name" in element.attrib}


def shown(model: Any, body: int) -> list[int]:
    return [g for g in range(model.ngeom) if model.geom_bodyid[g] == body and model.geom_group[g] != 5]


def posture(tabletop: TabletopModel, seed: int) -> dict[str, float]:
    """A random posture within the limits, that the model then has."""
    rng, model = np.random.default_rng(seed), tabletop.model
    values = {joint: float(rng.uniform(*model.joint(joint).range)) for joint in JOINTS}
    for joint, value in values.items():
        tabletop.data.joint(joint).qpos[0] = value
    mujoco.mj_kinematics(model, tabletop.data)
    mujoco.mj_camlight(model, tabletop.data)
    return values


def assert_frame(found: Any, position: Any, matrix: Any, what: str) -> None:
    assert np.allclose(found[0], position, atol=POSE_M), what
    assert np.allclose(found[1], np.reshape(matrix, (3, 3)), atol=TURN), what


def size_in_mujoco(geometry: Element) -> tuple[int, list[float]]:
    """(geom type, geom size) that an SDF geometry stands for."""
    (shape,) = geometry
    number = lambda tag: float(shape.findtext(tag) or "nan")  # noqa: E731
    if shape.tag == "box":
        return int(G.mjGEOM_BOX), list(floats(shape.findtext("size")) / 2)
    if shape.tag == "sphere":
        return int(G.mjGEOM_SPHERE), [number("radius")]
    if shape.tag in ("cylinder", "capsule"):
        kind = G.mjGEOM_CYLINDER if shape.tag == "cylinder" else G.mjGEOM_CAPSULE
        return int(kind), [number("radius"), number("length") / 2]
    if shape.tag == "ellipsoid":
        return int(G.mjGEOM_ELLIPSOID), list(floats(shape.findtext("radii")))
    if shape.tag == "plane":
        assert shape.findtext("normal") == "0 0 1"
        return int(G.mjGEOM_PLANE), list(floats(shape.findtext("size")) / 2)
    assert shape.tag == "mesh"
    return int(G.mjGEOM_MESH), []


def colour_in_mujoco(model: Any, geom: int) -> Any:
    """What MuJoCo paints: the geom's own colour or the material's, times the mean of the texture."""
    own, material = model.geom_rgba[geom], model.geom_matid[geom]
    if material < 0:
        return own
    colour = model.mat_rgba[material] if np.allclose(own, 0.5, atol=1e-6) or tuple(own) == (0.5, 0.5, 0.5, 1) else own
    texture = model.mat_texid[material][int(mujoco.mjtTextureRole.mjTEXROLE_RGB)]
    if texture < 0:
        return colour
    start = model.tex_adr[texture]
    texels = model.tex_data[start : start + model.tex_width[texture] * model.tex_height[texture] * 3]
    return colour * [*(texels.reshape(-1, 3).mean(axis=0) / 255), 1]


def assert_shapes(link: Element, frame: Any, tabletop: TabletopModel, geoms: list[int], folder: Path) -> None:
    """The visuals and collisions of a link are these geoms, in their order."""
    model, data = tabletop.model, tabletop.data
    visuals = link.findall("visual")
    assert len(visuals) == len(geoms), link.attrib["name"]
    collisions = {c.attrib["name"]: c for c in link.findall("collision")}
    for visual, geom in zip(visuals, geoms, strict=True):
        what = visual.attrib["name"]
        geometry = visual.find("geometry")
        assert geometry is not None
        kind, size = size_in_mujoco(geometry)
        assert kind == model.geom_type[geom], what
        assert np.allclose(size, model.geom_size[geom][: len(size)], rtol=1e-5), what
        assert np.allclose(floats(visual.findtext("material/diffuse")), colour_in_mujoco(model, geom), atol=1e-5), what
        assert visual.findtext("material/ambient") == visual.findtext("material/diffuse")
        placed = compose(frame, pose_of(visual))
        if kind == int(G.mjGEOM_MESH):
            assert_mesh(geometry, placed, tabletop, geom, folder)
        else:
            assert_frame(placed, data.geom_xpos[geom], data.geom_xmat[geom], what)
        solid = bool(model.geom_contype[geom] or model.geom_conaffinity[geom])
        collision = collisions.pop(f"{what}_collision", None)
        assert (collision is not None) == solid, what
        if collision is None:
            continue
        mu = float(collision.findtext("surface/friction/ode/mu") or "nan")
        assert mu == pytest.approx(float(model.geom_friction[geom][0]), rel=1e-5)
        assert np.allclose(pose_of(collision)[0], pose_of(visual)[0]) and np.allclose(
            pose_of(collision)[1], pose_of(visual)[1]
        )
        hull = collision.find("geometry")
        assert hull is not None
        if kind != int(G.mjGEOM_MESH):
            assert size_in_mujoco(hull) == (kind, size), what
        else:  # a mug collides as its wall
            index = int(model.mesh(int(model.geom_dataid[geom])).name.removeprefix("mug_"))
            radius, height = MUG_SIZES_M[index]
            kind_of_hull, hull_size = size_in_mujoco(hull)
            assert kind_of_hull == int(G.mjGEOM_CYLINDER) and hull_size == pytest.approx([radius, height / 2])
    assert not collisions


def assert_mesh(geometry: Element, placed: Any, tabletop: TabletopModel, geom: int, folder: Path) -> None:
    """Every vertex of the OBJ file lies where MuJoCo has one."""
    model, data = tabletop.model, tabletop.data
    lines = (folder / (geometry.findtext("mesh/uri") or "")).read_text(encoding="utf-8").splitlines()
    drawn = np.array([floats(line[2:]) for line in lines if line.startswith("v ")])
    mesh = int(model.geom_dataid[geom])
    start = model.mesh_vertadr[mesh]
    compiled = np.asarray(model.mesh_vert[start : start + model.mesh_vertnum[mesh]], np.float64)
    there = compiled @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
    here = drawn @ placed[1].T + placed[0]
    gaps = np.linalg.norm(here[:, None] - there[None], axis=2)
    assert gaps.min(axis=1).max() < 2e-5 and gaps.min(axis=0).max() < 2e-5


def test_meshes_are_those_that_mujoco_compiles() -> None:
    for index, size in enumerate(MUG_SIZES_M):
        text = share_path(f"worlds/meshes/mug_{index}.obj").read_text(encoding="utf-8").splitlines()
        vertices, faces = mug(*size)
        assert np.allclose([floats(line[2:]) for line in text if line.startswith("v ")], vertices, atol=1e-6)
        assert np.array_equal([floats(line[2:]) - 1 for line in text if line.startswith("f ")], faces)


@pytest.mark.parametrize("seed", [0, 1])
def test_links_shapes_and_inertias_of_the_robot(robot: Element, tabletop: TabletopModel, seed: int) -> None:
    tabletop.apply(load_world("empty"))
    model, data = tabletop.model, tabletop.data
    frames = sdf_links(robot, posture(tabletop, seed))
    bodies = {model.body(b).name: b for b in range(model.nbody) if model.body_rootid[b] == model.body("pelvis").id}
    links = elements(robot, "link")
    virtual = {name for name in links if name not in bodies}
    assert virtual == {f"{joint}_link" for joint in JOINTS} - {f"{j}_link" for j in JOINTS if _is_last(model, j)}
    for name, body in bodies.items():
        link, frame = links[name], frames[name]
        assert_frame(frame, data.xpos[body], data.xmat[body], name)
        assert_shapes(link, frame, tabletop, shown(model, body), share_path("description"))
        inertial = link.find("inertial")
        assert inertial is not None
        centre = compose(frame, pose_of(inertial))
        assert np.allclose(centre[0], data.xipos[body], atol=POSE_M), name
        turn = data.ximat[body].reshape(3, 3)
        expected = turn @ np.diag(model.body_inertia[body]) @ turn.T
        element = inertial.find("inertia")
        assert element is not None
        digits = 1e-5 * expected.max()  # files have six
        assert np.allclose(centre[1] @ tensor_of(element) @ centre[1].T, expected, rtol=0, atol=digits), name
        assert float(inertial.findtext("mass") or "nan") == pytest.approx(float(model.body_mass[body]), rel=1e-5)
        assert (link.findtext("gravity") == "false") == (model.body_gravcomp[body] == 1), name
    mass = sum(float(link.findtext("inertial/mass") or "nan") for link in links.values())
    assert mass - 0.01 * len(virtual) == pytest.approx(float(model.body("pelvis").subtreemass[0]), rel=1e-4)


def _is_last(model: Any, joint: str) -> bool:
    """Whether a joint moves its body itself, not a link between it and the next joint."""
    body = int(model.joint(joint).bodyid[0])
    return int(model.joint(joint).id) == int(model.body_jntadr[body]) + int(model.body_jntnum[body]) - 1


def test_joints_of_the_robot(robot: Element, tabletop: TabletopModel) -> None:
    model = tabletop.model
    joints = elements(robot, "joint")
    moving = {name: joint for name, joint in joints.items() if joint.attrib["type"] != "fixed"}
    assert set(moving) == set(JOINTS)
    assert {joint.findtext("parent") for name, joint in joints.items() if name == "pelvis_mount"} == {"world"}
    for name, joint in moving.items():
        index = model.joint(name).id
        kind = {"revolute": mujoco.mjtJoint.mjJNT_HINGE, "prismatic": mujoco.mjtJoint.mjJNT_SLIDE}
        assert model.jnt_type[index] == int(kind[joint.attrib["type"]])
        number = {tag: float(joint.findtext(f"axis/{tag}") or "nan") for tag in _JOINT_NUMBERS}
        assert floats(joint.findtext("axis/xyz")) == pytest.approx(model.jnt_axis[index])
        assert [number["limit/lower"], number["limit/upper"]] == pytest.approx(list(model.jnt_range[index]))
        dof, motor = model.jnt_dofadr[index], model.actuator(name).id
        assert number["dynamics/damping"] == pytest.approx(model.dof_damping[dof])
        assert number["dynamics/friction"] == pytest.approx(model.dof_frictionloss[dof])
        assert number["limit/effort"] == pytest.approx(model.actuator_forcerange[motor][1])
        assert number["limit/velocity"] > 0


_JOINT_NUMBERS = (
    "limit/lower", "limit/upper", "limit/effort", "limit/velocity", "dynamics/damping", "dynamics/friction",
)  # fmt: skip


def test_controller_has_the_gains_of_mujocos_motors_and_holds_home(robot: Element, tabletop: TabletopModel) -> None:
    model = tabletop.model
    (control,) = (p for p in robot.findall("plugin") if p.attrib["name"].endswith("::JointTrajectoryController"))
    columns = {tag: [e.text or "" for e in control.findall(tag)] for tag in {e.tag for e in control}}
    numbers = {tag: [float(text) for text in texts] for tag, texts in columns.items() if tag.endswith(_JOINT_COLUMNS)}
    assert {len(values) for values in numbers.values()} == {len(JOINTS)} and len(numbers) == 6
    assert columns["joint_name"] == list(_walk_order(robot)) and set(columns["joint_name"]) == set(JOINTS)
    for row, joint in enumerate(columns["joint_name"]):
        motor = model.actuator(joint).id
        number = {
            tag: float(values[row])
            for tag, values in columns.items()
            if len(values) == len(JOINTS) and tag != "joint_name"
        }
        assert number["position_p_gain"] == pytest.approx(model.actuator_gainprm[motor][0])
        # Never more damping than MuJoCo's; less where Gazebo's explicit step would make the link tremble, which is what
        # test_gazebo_gains tries.
        assert 0 < number["position_d_gain"] <= -model.actuator_biasprm[motor][2] * (1 + 1e-4)
        limits = [number["position_cmd_min"], number["position_cmd_max"]]
        assert limits == pytest.approx(list(model.actuator_forcerange[motor]))
        assert number["initial_position"] == HOME_RAD.get(joint, 0.0)
    assert columns["topic"] == ["joint_trajectory"]


_JOINT_COLUMNS = ("_gain", "_position", "_cmd_min", "_cmd_max")


def _walk_order(robot: Element) -> list[str]:
    return [joint.attrib["name"] for joint in robot.findall("joint") if joint.attrib["type"] != "fixed"]


def test_cameras_of_the_robot(robot: Element, tabletop: TabletopModel) -> None:
    tabletop.apply(load_world("empty"))
    frames = sdf_links(robot, posture(tabletop, 3))
    head = elements(robot, "link")["head_link"]
    sensors = {sensor.attrib["type"]: sensor for sensor in head.findall("sensor")}
    assert set(sensors) == {"camera", "depth_camera", "boundingbox_camera"}
    model, camera = tabletop.model, tabletop.camera_id
    position, optical = tabletop.camera_pose()  # rows: right, down, ahead
    view = load_world("empty").camera.view(640, 480)
    for kind, sensor in sensors.items():
        placed = compose(frames["head_link"], pose_of(sensor))
        assert_frame(placed, position, np.stack([optical[2], -optical[0], -optical[1]], axis=1), kind)
        width, height = (int(sensor.findtext(f"camera/image/{side}") or 0) for side in ("width", "height"))
        assert (width, height) == (640, 480)
        fov = float(sensor.findtext("camera/horizontal_fov") or "nan")
        assert width / 2 / math.tan(fov / 2) == pytest.approx(view.intrinsics.focal_px, rel=1e-5)
        fovy = 2 * math.degrees(math.atan(math.tan(fov / 2) * height / width))
        assert fovy == pytest.approx(float(model.cam_fovy[camera]), rel=1e-5)
        clip = [float(sensor.findtext(f"camera/clip/{end}") or "nan") for end in ("near", "far")]
        extent = model.stat.extent
        assert clip == pytest.approx([model.vis.map.znear * extent, model.vis.map.zfar * extent], rel=1e-5)
        assert sensor.findtext("camera/optical_frame_id") == "head_camera_optical_frame"
    assert [sensors[kind].findtext("topic") for kind in ("camera", "depth_camera", "boundingbox_camera")] == [
        "head_camera/image_raw", "head_camera/depth/image_raw", "head_camera/boxes/visible",
    ]  # fmt: skip
    assert sensors["boundingbox_camera"].findtext("camera/box_type") == "visible_2d"
    frame = elements(robot, "frame")["head_camera_optical_frame"]
    placed = compose(frames[frame.attrib["attached_to"]], pose_of(frame))
    assert_frame(placed, position, optical.T, "optical frame")


@pytest.mark.parametrize("world", world_names())
def test_things_and_lights_of_a_world(tabletop: TabletopModel, world: str) -> None:
    scene = load_world(world)
    tabletop.apply(scene)
    model, data = tabletop.model, tabletop.data
    element = ElementTree.parse(share_path(f"worlds/{world}.sdf")).getroot().find("world")
    assert element is not None and element.attrib["name"] == world
    models = {m.attrib["name"]: m for m in element.findall("model")}
    labels = {name: m.findtext("plugin/label") for name, m in models.items()}
    bodies: dict[str, list[int]] = {"room": [0], "table": [model.body("table").id]}
    for index, (name, thing) in enumerate(zip(list(models)[2:], scene.objects, strict=False)):
        assert name.startswith(f"{thing.colour}_{thing.shape}")
        assert label_of_number(int(labels[name] or 0)) == f"{thing.colour} {thing.shape}"
        body = model.body(f"object_{index}").id
        bodies[name] = [body]
        assert models[name].find("static") is None
        inertial = models[name].find("link/inertial")
        assert inertial is not None
        assert float(inertial.findtext("mass") or "nan") == pytest.approx(model.body_mass[body])
        tensor = inertial.find("inertia")
        assert tensor is not None and np.allclose(tensor_of(tensor), np.diag(model.body_inertia[body]), rtol=1e-5)
    if scene.obstacle is not None:
        bodies["obstacle"] = [model.body(scene.obstacle.kind).id]
    if scene.person is not None:
        bodies["person"] = [b for b in range(model.nbody) if model.body_rootid[b] == model.body("person").id]
    assert set(bodies) == set(models)
    for name, of in bodies.items():
        assert (models[name].findtext("static") == "true") == (name in ("room", "table", "obstacle", "person"))
        frame = sdf_links(models[name], {})["link"]
        (link,) = models[name].findall("link")
        assert_frame(frame, data.xpos[of[0]], data.xmat[of[0]], name)
        geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] in of and model.geom_group[g] != 5]
        assert_shapes(link, frame, tabletop, geoms, share_path("worlds"))
    for name in ("obstacle", "person"):
        assert name not in labels or label_of_number(int(labels[name] or 0)) == name
    assert labels["room"] is None and labels["table"] is None
    lights = {light.attrib["name"]: light for light in element.findall("light")}
    assert set(lights) == {n for n in ("key", "fill") if model.light_active[model.light(n).id]}
    for name, light in lights.items():
        index = model.light(name).id
        assert floats(light.findtext("direction")) == pytest.approx(model.light_dir[index], abs=1e-5)
        assert floats(light.findtext("diffuse"))[:3] == pytest.approx(model.light_diffuse[index], abs=1e-5)
        assert floats(light.findtext("specular"))[:3] == pytest.approx(model.light_specular[index], abs=1e-5)
        assert (light.findtext("cast_shadows") == "true") == bool(model.light_castshadow[index])
    assert floats(element.findtext("scene/ambient"))[:3] == pytest.approx(model.vis.headlight.ambient, abs=1e-5)
    assert floats(element.findtext("gravity")) == pytest.approx(model.opt.gravity)
