"""The interface packages are what other nodes and old bags expect: layouts are pinned by their type hashes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = ROOT / "test" / "interfaces" / "vision_msgs" / "msg"
OURS = ROOT / "exaone_interfaces"

# Of vision_msgs 4.1.1, the release of Humble, Jazzy and Kilted.
UPSTREAM = {
    "BoundingBox2D": "RIHS01_008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "BoundingBox2DArray": "RIHS01_2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691",
    "BoundingBox3D": "RIHS01_bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698",
    "BoundingBox3DArray": "RIHS01_a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6",
    "Classification": "RIHS01_f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    "Detection2D": "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "Detection3D": "RIHS01_ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "Detection3DArray": "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "ObjectHypothesis": "RIHS01_51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "ObjectHypothesisWithPose": "RIHS01_41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "Point2D": "RIHS01_eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    "Pose2D": "RIHS01_b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
    "VisionClass": "RIHS01_1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
    "VisionInfo": "RIHS01_95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
}


def message_hashes(package: str, folder: Path) -> dict[str, str]:
    """Type hash of each .msg file, computed from the text alone."""
    store = get_typestore(Stores.EMPTY)
    store.register(dict(get_typestore(Stores.ROS2_JAZZY).fielddefs))
    types = {}
    for file in sorted(folder.glob("*.msg")):
        types.update(get_types_from_msg(file.read_text(encoding="utf-8"), f"{package}/msg/{file.stem}"))
    for name in types:
        store.fielddefs.pop(name, None)
    store.register(types)
    return {name.rpartition("/")[2]: store.hash_rihs01(name) for name in types}


def test_the_stand_in_has_the_layout_of_vision_msgs() -> None:
    assert message_hashes("vision_msgs", STAND_IN) == UPSTREAM


def test_our_messages_have_not_changed() -> None:
    pinned = json.loads((OURS / "test" / "type_hashes.json").read_text(encoding="utf-8"))
    messages = {name.rpartition("/")[2]: value for name, value in pinned.items() if "/msg/" in name}
    assert message_hashes("exaone_interfaces", OURS / "msg") == messages


@pytest.mark.parametrize("kind", ["msg", "srv", "action"])
def test_every_definition_is_built(kind: str) -> None:
    listed = (OURS / "CMakeLists.txt").read_text(encoding="utf-8")
    missing = [file.name for file in (OURS / kind).iterdir() if f"{kind}/{file.name}" not in listed]
    assert not missing


def test_every_message_of_the_stand_in_is_built() -> None:
    listed = (STAND_IN.parent / "CMakeLists.txt").read_text(encoding="utf-8")
    assert [name for name in UPSTREAM if f"msg/{name}.msg" not in listed] == []


def test_the_stand_in_stays_out_of_users_workspaces() -> None:
    assert (STAND_IN.parent.parent / "COLCON_IGNORE").exists()


@pytest.mark.ros
@pytest.mark.parametrize("package", ["exaone_interfaces", "vision_msgs"])
def test_what_is_installed_is_what_is_pinned(package: str) -> None:
    """An environment that was built from older definitions must not pass for this one."""
    packages = pytest.importorskip("ament_index_python.packages")
    share = Path(packages.get_package_share_directory(package))
    found = {}
    for file in sorted((share / "msg").glob("*.json")):
        entry = json.loads(file.read_text(encoding="utf-8"))["type_hashes"][0]
        found[file.stem] = entry["hash_string"]
    expected = UPSTREAM if package == "vision_msgs" else message_hashes(package, OURS / "msg")
    assert found == expected


@pytest.mark.ros
def test_messages_services_and_actions_can_be_filled() -> None:
    pytest.importorskip("rclpy")
    kinds = {kind: importlib.import_module(f"exaone_interfaces.{kind}") for kind in ("msg", "srv", "action")}
    task = kinds["msg"].Task(name="find", kind=kinds["msg"].Task.KIND_GROUND, classes=["red cube"], rate=2.0)
    request = kinds["srv"].SetTasks.Request(tasks=[task])
    goal = kinds["action"].Ask.Goal(task=task)
    assert request.tasks[0].kind == goal.task.kind == "ground"
    assert kinds["action"].Ask.Result.ERROR_DEADLINE == 3
    assert kinds["msg"].Decision.OUTCOME_FAILED == 4
    chunk = kinds["msg"].ActionChunk(joint_names=["a", "b"], positions=[0.0, 1.0], spec_hash="0" * 16)
    assert len(chunk.positions) == 2
    assert kinds["action"].RunPolicy.Result.STOP_ESTOP == "estop"
