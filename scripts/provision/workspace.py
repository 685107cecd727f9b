"""A virtual environment and a colcon workspace on top of a sourced ROS 2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from provision.environment import REQUIREMENTS, ROOT, Runtime, running_variables
from provision.host import SourcedRos
from provision.report import ProvisionError, Report, watch_build
from provision.stamp import Stamps, exclusive, fingerprint
from provision.wheels import pip_install

_PIP_ADVICE = (
    "look at pip's last lines above; without your package index nothing can be installed. Then run this again."
)
_COLCON_ADVICE = "look at the first error in the log; `make clean` and running this again starts from nothing."


def install_on_ros(ros: SourcedRos, path: Path, groups: Sequence[str], report: Report) -> Runtime:
    """Prepare a sourced ROS 2: what it lacks goes into an environment that sees its packages, ours into a workspace.

    Args:
        ros: the sourced installation; nothing is written to it.
        path: folder of the environment; the workspace lies in it.
        groups: requirement files beside `runtime`, without their ending.
        report: where progress goes.
    """
    stamps = Stamps(path)
    workspace = path / "workspace"
    with exclusive(path):
        _install_packages(ros, path, groups, stamps, report)
        _build_workspace(path, workspace, stamps, report)
    return Runtime(ros.distribution, path / "bin" / "python", _sourced(workspace), None)


def _install_packages(ros: SourcedRos, path: Path, groups: Sequence[str], stamps: Stamps, report: Report) -> None:
    python = path / "bin" / "python"
    files = [REQUIREMENTS / f"{name}.txt" for name in ("runtime", *groups)]
    numpy = _version_of_numpy(ros.python)
    mark = fingerprint(files, ros.distribution, ros.python, numpy, str(path))
    if python.exists() and stamps.is_done("packages", mark):
        return
    stamps.forget("packages")
    with report.step(f"Installing Python packages beside ROS 2 {ros.distribution.capitalize()}") as step:
        command = [ros.python, "-m", "venv", "--system-site-packages", str(path)]
        step.run(command, advice="install the venv module (python3-venv), then run this again.")
        # cv_bridge of an apt ROS is compiled against its numpy: a newer one in our environment would break it.
        keep = path / "constraints.txt"
        keep.write_text(f"numpy=={numpy}\n", encoding="utf-8")
        pip_install(step, python, dict(os.environ), files, "-c", str(keep))
    stamps.done("packages", mark)


def _build_workspace(path: Path, workspace: Path, stamps: Stamps, report: Report) -> None:
    """Build both packages; the Python one by links, so that editing its source needs no second build."""
    shipped = [
        file
        for folder in ("config", "description", "launch", "models", "worlds")
        for file in (ROOT / folder).rglob("*")
        if file.is_file()
    ]
    sources = [file for file in (ROOT / "exaone_interfaces").rglob("*") if file.is_file()]
    sources += [ROOT / name for name in ("package.xml", "setup.py", "setup.cfg")]
    mark = fingerprint(sources, str(path), *sorted(str(file) for file in shipped))
    if stamps.is_done("workspace", mark):
        return
    stamps.forget("workspace")
    with report.step("Building the workspace with colcon") as step:
        # colcon runs in our environment so that the installed executables start with its Python.
        command = [str(path / "bin" / "python"), "-m", "colcon", "--log-base", str(workspace / "log"), "build"]
        command += ["--base-paths", str(ROOT), str(ROOT / "exaone_interfaces"), "--symlink-install"]
        command += ["--build-base", str(workspace / "build"), "--install-base", str(workspace / "install")]
        command += ["--event-handlers", "console_direct+"]
        step.run(command, advice=_COLCON_ADVICE, cwd=ROOT, watch=watch_build)
    stamps.done("workspace", mark)


def _version_of_numpy(python: str) -> str:
    found = subprocess.run([python, "-c", "import numpy; print(numpy.__version__)"], capture_output=True, text=True)
    if found.returncode != 0:
        raise ProvisionError(
            f"{python} cannot import numpy, which the messages need. "
            "Install it (Debian: python3-numpy), then run this again."
        )
    return found.stdout.strip()


def _sourced(workspace: Path) -> dict[str, str]:
    """The environment of a shell that has sourced the workspace."""
    script = 'source "$0" >/dev/null && env -0'
    setup = workspace / "install" / "local_setup.bash"
    found = subprocess.run(["bash", "-c", script, str(setup)], capture_output=True, check=False)
    if found.returncode != 0:
        raise ProvisionError(
            f"{setup} cannot be sourced: {found.stderr.decode(errors='replace').strip()}. {_COLCON_ADVICE}"
        )
    pairs = (entry.partition("=") for entry in os.fsdecode(found.stdout).split("\0") if "=" in entry)
    variables = running_variables({name: value for name, _, value in pairs})
    # An apt ROS registers pytest plugins of launch_testing and ament. Those of before autumn 2026 declare arguments of
    # hooks that pytest 9 has no more, and then pytest refuses to run at all. Our tests need none of them.
    variables.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return variables
