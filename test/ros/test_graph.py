"""The SROS 2 policy and the page of interfaces are what the nodes open, no more and no less."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from policy_rules import rules_of

from exaone_ros.errors import ExaoneError
from exaone_ros.nodes import graph
from exaone_ros.ros.messages_page import messages_page
from exaone_ros.ros.policy import NodeGraph, interfaces_page, policy_xml

ROOT = Path(__file__).parents[2]
REMEDY = "nodes have changed what they open: run `python -m exaone_ros.nodes.graph write` and commit what it writes"
# The schema of policy version 0.2.0 (sros2/policy/schemas/policy.xsd): children and attributes of each element.
CHILDREN = {
    "policy": {"enclaves"}, "enclaves": {"enclave"}, "enclave": {"profiles"}, "profiles": {"profile", "metadata"},
    "profile": {"topics", "services", "actions"}, "topics": {"topic"}, "services": {"service"}, "actions": {"action"},
    "topic": set(), "service": set(), "action": set(),
}  # fmt: skip
REQUIRED = {"policy": {"version"}, "enclave": {"path"}, "profile": {"ns", "node"}}
RULES = {"topics": {"publish", "subscribe"}, "services": {"reply", "request"}, "actions": {"call", "execute"}}


def made(what: str, *options: str) -> str:
    """What the command prints, in a process of its own: it makes every node."""
    command = [sys.executable, "-m", "exaone_ros.nodes.graph", what, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def schema_faults(element: ElementTree.Element) -> Iterator[str]:
    """What the schema does not allow."""
    allowed = REQUIRED.get(element.tag, set()) | RULES.get(element.tag, set())
    if element.tag not in CHILDREN:
        yield f"unknown element {element.tag}"
        return
    if not REQUIRED.get(element.tag, set()) <= set(element.attrib) <= allowed:
        yield f"{element.tag} has attributes {sorted(element.attrib)}"
    yield from (f"{k}={v}" for k, v in element.attrib.items() if k in RULES.get(element.tag, ()) and v != "ALLOW")
    if CHILDREN[element.tag] and not len(element) and element.tag != "profile":
        yield f"{element.tag} is empty"
    for child in element:
        if child.tag not in CHILDREN[element.tag]:
            yield f"{child.tag} in {element.tag}"
        yield from schema_faults(child)


def test_the_policy_and_the_page_are_what_the_nodes_open() -> None:
    assert rules_of((ROOT / "config" / "sros2_policy.xml").read_text(encoding="utf-8")) == rules_of(made("policy")), (
        REMEDY
    )
    assert (ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8") == made("page"), REMEDY


def test_the_policy_of_the_demo_is_what_its_launch_file_starts() -> None:
    written = (ROOT / "config" / "sros2_demo_policy.xml").read_text(encoding="utf-8")
    assert rules_of(written) == rules_of(made("policy", "--launch", "demo", "depth:=true")), REMEDY
    rules = rules_of(written)
    assert {
        ("/exaone/action_head", "publish", "/joint_trajectory"),
        ("/exaone/companion", "subscribe", "/head_camera/depth/image_raw"),
        ("/robot_state_publisher", "publish", "/tf"),
    } <= rules
    assert ("/exaone/companion", "subscribe", "/tf") not in rules, "the demo has no target_frame"
    for name in ("get_parameters", "get_type_description"):  # of a node in C++, which is not here to be asked
        assert f"<service>/robot_state_publisher/{name}</service>" in written
    assert list(schema_faults(ElementTree.fromstring(written.encode()))) == []


def test_named_cameras_and_ones_own_parameters_are_covered(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "/exaone/perception: {ros__parameters: {front.image_topic: /hand/image}}\n"
        "/exaone/front/companion: {ros__parameters: {depth_topic: /hand/depth}}\n"
        "/exaone/wrist/companion: {ros__parameters: {track: true}}\n",
        encoding="utf-8",
    )
    rules = rules_of(made("policy", "--cameras", "front", "wrist", "--params-file", str(mine)))
    assert {
        ("/exaone/perception", "subscribe", "/hand/image"),
        ("/exaone/perception", "subscribe", "/exaone/wrist/image_raw"),
        ("/exaone/perception", "publish", "/exaone/front/detections"),
        ("/exaone/front/companion", "subscribe", "/exaone/front/detections"),
        ("/exaone/front/companion", "subscribe", "/hand/depth"),
        ("/exaone/wrist/companion", "publish", "/exaone/wrist/detections_tracked"),
    } <= rules
    assert ("/exaone/wrist/companion", "publish", "/exaone/wrist/detections_3d") not in rules, "there is no depth"
    assert ("/exaone/perception", "publish", "/exaone/detections") not in rules


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("demmo",), "no launch file 'demmo'"),
        (("gazebo",), "ros_gz_sim"),
        (("demo", "depht:=true"), "did you mean 'depth'"),
        (("demo", "depth"), "expected NAME:=VALUE"),
    ],
)
def test_what_a_policy_cannot_be_made_for_is_named(
    words: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert graph.run(["policy", "--launch", *words]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ("policy", "--cameras", "front", "wrist", "--image-topic", "/c"),
            "'front.image_topic' of the perception node",
        ),
        (("policy", "--cameras", "front", "wrist", "--depth-topic", "/d"), "expected a relative name"),
        (("policy", "--image-topic", "/c", "--launch", "demo"), "as ARGUMENT:=VALUE"),
        (("write", "--launch", "demo"), "'write' writes the package's own files"),
        (("write", "--image-topic", "/c"), "'write' writes the package's own files"),
        (("write", "--params-file", "mine.yaml"), "'write' writes the package's own files"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    words: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {name: (ROOT / name).read_bytes() for name in (graph.POLICY, graph.DEMO_POLICY, graph.PAGE, graph.MESSAGES)}
    assert graph.run(list(words)) == 1
    said = capsys.readouterr()
    assert reason in said.err and not said.out
    assert kept == {name: (ROOT / name).read_bytes() for name in kept}


def test_a_file_of_parameters_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert graph.run(["policy", "--params-file", "no/such.yaml"]) == 1
    assert "'no/such.yaml'; expected the path of a file" in capsys.readouterr().err


def test_a_file_of_parameters_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("perception: [")
    assert graph.run(["policy", "--params-file", str(mine)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and str(mine) in said and ".c:" not in said


def test_the_page_of_messages_is_what_is_defined(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    assert page == messages_page(ROOT / "exaone_interfaces"), REMEDY
    with pytest.raises(ExaoneError, match="exaone_interfaces"):
        messages_page(tmp_path)


def test_the_policy_is_valid_and_allows_no_more_than_names() -> None:
    policy = ElementTree.parse(ROOT / "config" / "sros2_policy.xml").getroot()
    assert list(schema_faults(policy)) == [] and policy.get("version") == "0.2.0"
    names = [element.text or "" for element in policy.iter() if element.tag in ("topic", "service", "action")]
    assert names and not [name for name in names if "*" in name or not name.startswith("/")]
    enclaves = {enclave.get("path"): enclave for enclave in policy.iter("enclave")}
    assert set(enclaves) == {"/exaone/perception", "/exaone/companion", "/exaone/action_head", "/simulator"}
    published = {
        path: {t.text for group in enclave.iter("topics") if group.get("publish") for t in group}
        for path, enclave in enclaves.items()
    }
    moves_the_robot = {path for path, topics in published.items() if "/exaone/joint_trajectory" in topics}
    assert moves_the_robot == {"/exaone/action_head"}


def test_a_policy_can_be_made_for_ones_own_camera() -> None:
    policy = ElementTree.fromstring(made("policy", "--image-topic", "/camera/color/image_raw", "--depth-topic", "/d"))
    for node in ("perception", "companion"):
        (enclave,) = (e for e in policy.iter("enclave") if e.get("path") == f"/exaone/{node}")
        heard = {t.text for group in enclave.iter("topics") if group.get("subscribe") for t in group}
        assert "/camera/color/image_raw" in heard and "/exaone/image_raw" not in heard


def test_a_schema_fault_is_found() -> None:
    broken = ElementTree.fromstring(
        '<policy><enclaves><enclave path="/a"><topics publish="YES"/></enclave></enclaves></policy>'
    )
    assert len(list(schema_faults(broken))) == 4


def test_names_are_written_once_and_escaped() -> None:
    node = NodeGraph("n", "/", {"/a&b": "x/msg/Y"}, {}, {}, executes={"/do": "x/action/Z"})
    root = ElementTree.fromstring(policy_xml([node]).encode())
    assert [t.text for t in root.iter("topic")] == ["/a&b", "/clock"] and root.find(".//actions").get(
        "execute"
    ) == "ALLOW"  # type: ignore[union-attr]
    assert "| action | `/do` | x/action/Z |  |" in interfaces_page([node], {})
