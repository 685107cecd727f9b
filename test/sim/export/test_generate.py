"""What is committed is what the code generates."""

from __future__ import annotations

from pathlib import Path

import pytest

from exaone_ros.errors import SimulationError
from exaone_ros.sim.export.pose import Pose
from exaone_ros.sim.export.xml import number
from exaone_ros.sim.generate import difference, main, package_files

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return package_files()


def test_committed_files_are_up_to_date(files: dict[str, str], repository: Path) -> None:
    for file, text in files.items():
        committed = (repository / file).read_text(encoding="utf-8")
        assert not difference(committed, text), f"{file} is stale: run `python -m exaone_ros.sim.generate`"
    present = {
        path.relative_to(repository).as_posix()
        for folder in ("description", "worlds")
        for path in (repository / folder).rglob("*")
        if path.is_file() and path.suffix != ".yaml"
    }
    assert present == set(files), "a file that nothing generates, or one that is not committed"


def test_a_world_of_ones_own_is_written_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("objects: [{shape: mug, colour: red, x_m: 0.6, y_m: 0.1}]", encoding="utf-8")
    out = tmp_path / "out"
    assert main(["--world", str(mine), "--out", str(out)]) == 0
    text = (out / "mine.sdf").read_text(encoding="utf-8")
    assert '<world name="mine">' in text and '<model name="red_mug">' in text
    assert (out / "meshes" / "mug_1.obj").is_file() and "meshes/mug_1.obj" in text
    assert main(["--world", str(mine), "--out", str(out), "--check"]) == 0
    (out / "mine.sdf").write_text(text.replace("red_mug", "blue_mug"), encoding="utf-8")
    assert main(["--world", str(mine), "--out", str(out), "--check"]) == 1
    assert "1 of 4 files differ" in capsys.readouterr().err


def test_what_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--world", "tabeltop", "--out", str(tmp_path)]) == 1
    assert "did you mean 'tabletop'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--world", "tabletop"])
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("<mass>1.23456</mass>", "<mass>1.23457</mass>", True),
        ("<mass>1.234</mass>", "<mass>1.235</mass>", False),
        ("<link name='a'/>", "<link name='b'/>", False),
        ("x", "x\ny", False),
    ],
)
def test_differences_of_rounding_are_none(a: str, b: str, same: bool) -> None:
    assert (difference(a, b) == "") == same


@pytest.mark.parametrize(("value", "text"), [(-1e-12, "0"), (0.1234567, "0.123457"), (-2.0, "-2"), (1e-5, "1e-05")])
def test_numbers_have_one_spelling(value: float, text: str) -> None:
    assert number(value) == text


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(SimulationError, match="nan"):
        number(float("nan"))


@pytest.mark.parametrize("rpy", [(0.1, -0.4, 2.0), (0.3, 1.5707963267948966, 0.7), (-3.0, -1.5707963267948966, 0.2)])
def test_poses_survive_roll_pitch_yaw(rpy: tuple[float, float, float]) -> None:
    pose = Pose.from_rpy((1, 2, 3), rpy)
    again = Pose.from_rpy(pose.position, pose.rpy)
    assert abs(again.rotation - pose.rotation).max() < 1e-6
    assert abs((pose @ pose.inverse()).rotation - Pose.of((0, 0, 0)).rotation).max() < 1e-12
