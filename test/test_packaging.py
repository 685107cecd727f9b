"""The package is what ROS tools and pip expect of it: metadata, files, executables, extras."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from support.imports import imports_of, source_files

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "exaone_ros"


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    """The keywords that setup.py hands to setuptools."""
    captured: dict[str, Any] = {}
    source = (ROOT / "setup.py").read_text(encoding="utf-8")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        import setuptools

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(setuptools, "setup", lambda **keywords: captured.update(keywords))
            exec(compile(source, "setup.py", "exec"), {"__name__": "setup"})
    finally:
        os.chdir(before)
    return captured


def manifest(folder: Path = ROOT) -> ElementTree.Element:
    return ElementTree.parse(folder / "package.xml").getroot()


@pytest.mark.parametrize("folder", [".", "exaone_interfaces", "test/interfaces/vision_msgs"])
def test_package_xml_is_valid(folder: str) -> None:
    catkin_pkg = pytest.importorskip("catkin_pkg.package")
    warnings: list[str] = []
    package = catkin_pkg.parse_package(str(ROOT / folder), warnings=warnings)
    package.validate(warnings=warnings)
    assert package.package_format == 3
    assert warnings == []


def test_versions_agree(metadata: dict[str, Any]) -> None:
    init = ast.parse((ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    versions = [ast.literal_eval(node.value) for node in init.body if isinstance(node, ast.Assign)]
    assert manifest().findtext("version") == metadata["version"] == versions[0]
    assert manifest(ROOT / "exaone_interfaces").findtext("version") == metadata["version"]


def test_every_imported_ros_package_is_declared() -> None:
    declared = {entry.text for entry in manifest() if entry.tag.endswith("depend")}
    imported = {found.module.split(".")[0] for path in source_files() for found in imports_of(path)}
    ros = {name for name in imported if name.endswith(("_msgs", "_interfaces", "_srvs")) or name.startswith("rcl")}
    assert ros | {"cv_bridge", "python3-numpy", "python3-opencv", "python3-yaml", "python3-pytest"} <= declared


def test_every_imported_python_package_is_a_requirement(metadata: dict[str, Any]) -> None:
    """What is imported is named in setup.py (a range) and pinned for the set-up and the tests."""
    names = {"cv2": "opencv-python", "yaml": "PyYAML", "jinja2": "Jinja2", "PIL": "pillow"}
    ours = {PACKAGE, *(path.name for path in (ROOT / "test").iterdir())}
    manifest_names = {entry.text for entry in manifest() if entry.tag.endswith("depend")}
    imported = {found.module.split(".")[0] for path in source_files() for found in imports_of(path)}
    foreign = imported - set(sys.stdlib_module_names) - ours - {str(name) for name in manifest_names}
    foreign -= {"rosidl_runtime_py", "rpyutils"} | {
        name for name in foreign if name.startswith(("rcl", "ament", "tensorrt"))
    }
    ranges = [*metadata["install_requires"], *(name for extra in metadata["extras_require"].values() for name in extra)]
    pins = [line for file in (ROOT / "requirements").glob("*.txt") for line in file.read_text().splitlines()]
    for module in sorted(foreign):
        name = names.get(module, module)
        assert any(_project(entry) == name for entry in ranges), f"{module} is imported; setup.py does not name {name}"
        assert any(_project(entry) == name for entry in pins), (
            f"{module} is imported; requirements/ does not pin {name}"
        )


def test_missing_packages_are_blamed_on_extras_that_bring_them(metadata: dict[str, Any]) -> None:
    """`require("onnxruntime", "cpu")` promises that the extra `cpu` installs onnxruntime."""
    promises = []
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
                arguments = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                if len(arguments) == 2:
                    promises.append((path.name, *arguments))
    assert promises
    extras = metadata["extras_require"]
    for where, module, extra in promises:
        assert extra in extras, f"{where} names the extra '{extra}', which setup.py does not have"
        project = {"rerun": "rerun-sdk"}.get(module, module.split(".")[0])
        assert project in {_project(entry) for entry in extras[extra]}, f"{where}: '{extra}' does not bring {module}"


def test_pins_lie_in_the_ranges(metadata: dict[str, Any]) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    extras = metadata["extras_require"].values()
    ranges = [
        requirements.Requirement(text) for text in [*metadata["install_requires"], *(t for e in extras for t in e)]
    ]
    for file in ("system", "runtime", "test", "record", "reference", "server", "lint", "view"):
        for line in (ROOT / "requirements" / f"{file}.txt").read_text(encoding="utf-8").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            pin = requirements.Requirement(line)
            version = next(iter(pin.specifier)).version
            for wanted in ranges:
                if wanted.name == pin.name:
                    assert wanted.specifier.contains(version), f"{line} is not within {wanted}"


def test_executables_exist(metadata: dict[str, Any]) -> None:
    for entry in metadata["entry_points"]["console_scripts"]:
        module, _, function = entry.partition("=")[2].strip().partition(":")
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        names = [
            node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
        ]
        assert function in names, f"{entry}: {path} has no function {function}"


def test_every_node_has_an_executable(metadata: dict[str, Any]) -> None:
    targets = {entry.partition("=")[2].strip() for entry in metadata["entry_points"]["console_scripts"]}
    for path in source_files(ROOT / PACKAGE / "nodes"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body):
            assert f"{PACKAGE}.nodes.{path.stem}:main" in targets


def test_shipped_files_are_all_listed(metadata: dict[str, Any]) -> None:
    listed = {file for _, files in metadata["data_files"] for file in files}
    tracked = subprocess.run(
        ["git", "ls-files", "config", "description", "launch", "models", "worlds"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    expected = tracked.stdout.split("\n")[:-1] or ["config/fastdds.xml"]
    assert set(expected) <= listed
    assert {f"resource/{PACKAGE}", "package.xml"} <= listed


def test_the_image_profile_leaves_room_for_images() -> None:
    profile = ElementTree.parse(ROOT / "config" / "fastdds.xml")
    sizes = [int(element.text or 0) for element in profile.iter() if element.tag.endswith("segment_size")]
    assert sizes and min(sizes) > 4 * 1280 * 720 * 3


def _project(requirement: str) -> str:
    for index, letter in enumerate(requirement):
        if letter in "=<>!~[; ":
            return requirement[:index]
    return requirement
