"""On a sourced ROS 2: the variables that the code runs with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from provision.report import ProvisionError
from provision.workspace import _sourced

OLD_PLUGIN = """
def pytest_pycollect_makemodule(path, parent):
    return None
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built workspace as far as sourcing it goes."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    (tmp_path / "install").mkdir()
    (tmp_path / "install" / "local_setup.bash").write_text("export FROM_THE_WORKSPACE=yes\necho noise\n")
    return tmp_path


def test_what_the_workspace_exports_is_there(workspace: Path) -> None:
    variables = _sourced(workspace)
    assert variables["FROM_THE_WORKSPACE"] == "yes" and variables["PATH"] == os.environ["PATH"]
    assert variables["PYTHONPATH"].split(os.pathsep)[0] == str(Path(__file__).parents[2])


def test_a_workspace_that_cannot_be_sourced_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match=r"local_setup\.bash cannot be sourced"):
        _sourced(tmp_path)


def test_pytest_runs_beside_the_plugins_of_an_older_ros(workspace: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    registered = site / "launch_testing-1.0.dist-info"
    registered.mkdir(parents=True)
    (site / "old_launch_testing.py").write_text(OLD_PLUGIN)
    (registered / "METADATA").write_text("Metadata-Version: 2.1\nName: launch-testing\nVersion: 1.0\n")
    (registered / "entry_points.txt").write_text("[pytest11]\nlaunch_testing = old_launch_testing\n")
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "test_one.py"]
    variables = _sourced(workspace) | {"PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
    del variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
    broken = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)
    if int(pytest.__version__.split(".")[0]) >= 9:
        assert broken.returncode != 0 and "launch_testing" in broken.stdout + broken.stderr, "the variable is needed"
