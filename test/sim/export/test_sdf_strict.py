"""The SDF files pass Open Robotics' own parser with every warning taken for an error.

Needs the headers of libsdformat: Debian's and Ubuntu's package `libsdformat-dev`, or what Gazebo brings.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from exaone_ros.share import share_path
from exaone_ros.sim.world_file import world_names

SOURCE = Path(__file__).parents[2] / "support" / "sdf_strict.cc"
FILES = ("description/exaone_humanoid.sdf", *(f"worlds/{name}.sdf" for name in world_names()))
YOUNGER = {"optical_frame_id": 13}
"""Elements that an older libsdformat does not know -> the first version that does."""


def installed_version() -> int:
    """Major version of the libsdformat that programs can be built with; 0 where there is none."""
    if shutil.which("pkg-config") is None or shutil.which("g++") is None:
        return 0
    listed = subprocess.run(["pkg-config", "--list-all"], capture_output=True, text=True, check=True).stdout
    return max((int(number) for number in re.findall(r"^sdformat(\d+) ", listed, re.MULTILINE)), default=0)


VERSION = installed_version()
pytestmark = [
    pytest.mark.slow,  # a C++ program is built; ROS distribution and numpy make no difference
    pytest.mark.skipif(not VERSION, reason="no libsdformat here: apt-get install libsdformat-dev pkg-config g++"),
]


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("sdf") / "sdf_strict"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", f"sdformat{VERSION}"], capture_output=True, text=True, check=True
    ).stdout.split()
    command = ["g++", "-O0", "-std=c++17", str(SOURCE), "-o", str(program), *flags]
    built = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert built.returncode == 0, built.stderr
    return program


def readable(file: str, folder: Path) -> Path:
    """A copy of the file without the elements that this version is too old for; each is known to be there."""
    tree = ElementTree.parse(share_path(file))
    for tag in (tag for tag, since in YOUNGER.items() if since > VERSION):
        for parent in list(tree.iter()):
            for child in parent.findall(tag):
                parent.remove(child)
    copy = folder / Path(file).name
    tree.write(copy, encoding="unicode")
    return copy


def test_every_file_passes(checker: Path, tmp_path: Path) -> None:
    copies = [str(readable(file, tmp_path)) for file in FILES]
    said = subprocess.run([str(checker), *copies], capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(": OK, 1 worlds, 0 models") == len(FILES) - 1
    assert said.stdout.count(": OK, 0 worlds, 1 models") == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<update_rate>", "<update_rait>"),  # an element that SDF does not know
        ("<child>left_foot_link</child>", "<child>left_shoe_link</child>"),  # a link that is not there
        ('relative_to="pelvis"', 'relative_to="pelvi"'),
    ],
)
def test_the_checker_catches_what_is_wrong(checker: Path, tmp_path: Path, old: str, new: str) -> None:
    copy = readable(FILES[0], tmp_path)
    text = copy.read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new).replace(old.replace("<", "</"), new.replace("<", "</"))
    copy.write_text(text, encoding="utf-8")
    said = subprocess.run([str(checker), str(copy)], capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode != 0, said.stdout


def test_what_is_taken_out_for_an_old_version_is_only_the_optical_frame() -> None:
    """The cross-check with MuJoCo (test_sdf_is_mjcf) reads these elements; here they are counted."""
    root = ElementTree.parse(share_path(FILES[0])).getroot()
    assert [len(list(root.iter(tag))) for tag in YOUNGER] == [3]
