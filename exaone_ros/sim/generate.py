"""Writes the world in the formats of other tools: the robot as MJCF, SDF and URDF, the worlds as SDF.

    python -m exaone_ros.sim.generate                      # the package's own files, in a checkout
    python -m exaone_ros.sim.generate --check              # do they agree with the code?
    python -m exaone_ros.sim.generate --world two_mugs.yaml --out my_worlds

Files that ship with the package are committed; a test regenerates and compares them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from exaone_ros.errors import ExaoneError
from exaone_ros.pipes import ends_with_its_reader
from exaone_ros.share import share_path
from exaone_ros.sim.export.obj import obj_text, unit_ball
from exaone_ros.sim.export.parts import bare_inertias, read_link
from exaone_ros.sim.export.sdf import MESH_FOLDER, ROBOT, robot_sdf, world_sdf
from exaone_ros.sim.export.urdf import UNIT_BALL, robot_urdf
from exaone_ros.sim.meshes import mug
from exaone_ros.sim.mjcf import robot_mjcf
from exaone_ros.sim.model import TabletopModel
from exaone_ros.sim.scene import MUG_SIZES_M
from exaone_ros.sim.world_file import load_world, world_names

TOLERANCE = 2e-5
"""Numbers of two generated files are the same within this: MuJoCo's versions differ in the last digits."""


def robot_files(tabletop: TabletopModel) -> dict[str, str]:
    """The robot's description: file name in ``description/`` -> text."""
    tabletop.apply(load_world("empty"))
    robot = read_link(tabletop.mj, tabletop.model, int(tabletop.model.body("pelvis").id))
    return {
        f"{ROBOT}.xml": robot_mjcf() + "\n",
        f"{ROBOT}.sdf": robot_sdf(robot, bare_inertias(tabletop.mj)),
        f"{ROBOT}.urdf": robot_urdf(robot),
        f"{MESH_FOLDER}/{UNIT_BALL}.obj": obj_text(*unit_ball()),
    }


def world_files(tabletop: TabletopModel, worlds: Sequence[str]) -> dict[str, str]:
    """Worlds for Gazebo and the meshes that they name: file name in ``worlds/`` -> text.

    Args:
        tabletop: model to apply them to.
        worlds: names or paths, as `load_world` takes them.
    """
    files = {f"{Path(world).stem}.sdf": world_sdf(tabletop, load_world(world), Path(world).stem) for world in worlds}
    meshes = {f"{MESH_FOLDER}/mug_{i}.obj": obj_text(*mug(*size)) for i, size in enumerate(MUG_SIZES_M)}
    return files | meshes


def package_files() -> dict[str, str]:
    """All generated files of the package: path in the repository -> text."""
    tabletop = TabletopModel()
    files = {f"description/{file}": text for file, text in robot_files(tabletop).items()}
    return files | {f"worlds/{file}": text for file, text in world_files(tabletop, world_names()).items()}


def difference(a: str, b: str) -> str:
    """The first place where two generated texts differ in more than the last digits of a number; empty if none."""
    for line, (left, right) in enumerate(zip_longest(a.splitlines(), b.splitlines(), fillvalue=""), start=1):
        if left != right and not _same_words(left, right):
            return f"line {line}: {left.strip()!r} and {right.strip()!r}"
    return ""


def _same_words(left: str, right: str) -> bool:
    words = [text.replace('"', " ").replace("<", " ").replace(">", " ").split() for text in (left, right)]
    return len(words[0]) == len(words[1]) and all(_same(a, b) for a, b in zip(*words, strict=True))


def _same(left: str, right: str) -> bool:
    if left == right:
        return True
    try:
        return math.isclose(float(left), float(right), rel_tol=TOLERANCE, abs_tol=1e-8)
    except ValueError:
        return False


@ends_with_its_reader
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 0, or 1 where --check finds a file that is not what the code says."""
    parser = argparse.ArgumentParser(prog="python -m exaone_ros.sim.generate", description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say which files are out of date")
    parser.add_argument("--world", action="append", help="a world file of your own (with --out); may be repeated")
    parser.add_argument("--out", type=Path, help="folder to write to (default: this package's checkout)")
    arguments = parser.parse_args(argv)
    if arguments.world and arguments.out is None:
        parser.error("--world needs --out: a world of your own is not written into the package")
    try:
        files = world_files(TabletopModel(), arguments.world) if arguments.world else package_files()
        out = arguments.out or share_path("worlds").parent
    except ExaoneError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.check:
        return _check(out, files)
    for file, text in files.items():
        path = out / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


def _check(out: Path, files: dict[str, str]) -> int:
    stale = 0
    for file, text in files.items():
        path = out / file
        found = difference(path.read_text(encoding="utf-8"), text) if path.is_file() else "missing"
        if found:
            print(f"{path}: {found}", file=sys.stderr)
            stale += 1
    if stale:
        print(f"{stale} of {len(files)} files differ; run `python -m exaone_ros.sim.generate`", file=sys.stderr)
    return int(stale > 0)


if __name__ == "__main__":
    sys.exit(main())
