"""The stories of `nodes.scenarios`, on the real perception node, the bundled checkpoint and the stepped simulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnxruntime  # noqa: F401  (the perception process needs it; without it the stories are not collected)
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from exaone_ros.nodes import scenario
from exaone_ros.nodes.scenarios import STORIES
from exaone_ros.ros.closed_loop import ClosedLoop

BUNDLED = Path(__file__).parents[2] / "models" / "exaone4_5-tabletop-tiny" / "model.safetensors"
needs_weights = pytest.mark.skipif(not BUNDLED.exists(), reason="the bundled checkpoint's weights are not there")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClosedLoop]:
    with scenario.closed_loop(tmp_path_factory.mktemp("logs"), threads=1) as running:
        yield running.loop


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_story(name: str, loop: ClosedLoop) -> None:
    report = STORIES[name](loop)
    print(f"\n{name}")
    print("\n".join(f"  {line}" for line in report.lines()))
    assert report.figures and report.latencies_s


def test_an_unknown_story_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scenario.main(["weigh"])
    assert "'weigh'; expected some of find, count" in capsys.readouterr().err


def test_an_interrupted_story_ends_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_arguments: object, **_named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenario, "closed_loop", interrupted)
    monkeypatch.setattr(scenario, "prepare_environment", lambda: None)
    assert scenario.main([]) == 1
    assert capsys.readouterr().err == "interrupted\n"
