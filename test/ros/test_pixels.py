"""Every encoding against what a real cv_bridge makes of it; every broken layout refused by name."""

from __future__ import annotations

import array
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exaone_ros.errors import ImageError
from exaone_ros.ros.pixels import ENCODINGS, UnusableImage, pixels_to_depth_m, pixels_to_rgb

DATA = Path(__file__).parent.parent / "data"
GOLDEN = np.load(DATA / "cv_bridge_golden.npz")
CASES = sorted(key.rsplit("/", 1)[0] for key in GOLDEN if key.endswith("/raw"))
SYSTEM_PYTHON = "/usr/bin/python3"


def padded(raw: np.ndarray, padding: int) -> tuple[bytes, int]:
    """The rows of `raw` with rubbish behind each; returns the bytes and the step."""
    rows = np.full((raw.shape[0], raw.shape[1] + padding), 0xA5, np.uint8)
    rows[:, : raw.shape[1]] = raw
    return rows.tobytes(), rows.shape[1]


@pytest.mark.parametrize("padding", [0, 1, 7, 32])
@pytest.mark.parametrize("case", CASES)
def test_colours_are_those_of_cv_bridge(case: str, padding: int) -> None:
    encoding, is_bigendian = case.split("/")
    raw, expected = GOLDEN[f"{case}/raw"], GOLDEN[f"{case}/rgb"]
    data, step = padded(raw, padding)
    height, width = expected.shape[:2]
    got = pixels_to_rgb(data, height=height, width=width, step=step, encoding=encoding, is_bigendian=int(is_bigendian))
    assert got.dtype == np.uint8 and got.shape == expected.shape
    # Bayer and YUV arithmetic may round differently in another OpenCV; the rest only moves bytes.
    tolerance = 1 if encoding.startswith(("bayer", "yuv")) else 0
    assert np.abs(got.astype(int) - expected).max() <= tolerance


def test_golden_data_cover_every_colour_encoding() -> None:
    aliases = {"uyvy", "yuyv", "yuv422_yuy2"}  # cv_bridge 1.16 has no YUYV; see the next test
    colours = {name for name, encoding in ENCODINGS.items() if encoding.family == "colour"}
    assert {case.split("/")[0] for case in CASES} == colours - aliases
    both_orders = {case for case in CASES if "16/" in case}
    assert {case.split("/")[1] for case in both_orders} == {"0", "1"}


def test_yuyv_is_uyvy_with_its_bytes_swapped() -> None:
    uyvy, expected = GOLDEN["yuv422/0/raw"], GOLDEN["yuv422/0/rgb"]
    yuyv = uyvy.reshape(uyvy.shape[0], -1, 2)[:, :, ::-1].reshape(uyvy.shape)
    for encoding in ("yuv422_yuy2", "yuyv"):
        got = pixels_to_rgb(yuyv.tobytes(), height=8, width=12, step=24, encoding=encoding)
        assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason="no system Python")
def test_golden_data_are_what_the_installed_cv_bridge_says(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}  # the ROS wheels' variables would break that Python
    probe = subprocess.run([SYSTEM_PYTHON, "-c", "import cv_bridge"], env=environment, capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("no cv_bridge here; the golden data stand in for it")
    script = shutil.copy(DATA / "make_cv_bridge_golden.py", tmp_path)
    subprocess.run([SYSTEM_PYTHON, script, str(tmp_path / "new.npz")], env=environment, check=True, capture_output=True)
    new = np.load(tmp_path / "new.npz")
    for key in GOLDEN:
        assert key in new and np.abs(new[key].astype(int) - GOLDEN[key]).max() <= 1, key


@pytest.mark.parametrize("step", [36, 40])
def test_rgb8_is_a_read_only_view(step: int) -> None:
    data = array.array("B", bytes(range(200)) * 2)[: 8 * step]
    rgb = pixels_to_rgb(data, height=8, width=12, step=step, encoding="rgb8")
    assert np.shares_memory(rgb, np.frombuffer(data, np.uint8)) and not rgb.flags.writeable
    assert rgb[3, 4].tolist() == list(data[3 * step + 12 : 3 * step + 15])


def refused(reason: str, **changes: object) -> str:
    """Assert that a good rgb8 image with `changes` is refused for `reason`; returns the message."""
    image: dict[str, object] = {"height": 4, "width": 6, "step": 18, "encoding": "rgb8", "is_bigendian": 0}
    image |= changes
    data = image.pop("data") if "data" in image else bytes(int(image["height"]) * int(image["step"]))  # type: ignore[call-overload]
    with pytest.raises(UnusableImage) as caught:
        pixels_to_rgb(data, **image)  # type: ignore[arg-type]
    assert caught.value.reason == reason and isinstance(caught.value, ImageError)
    return str(caught.value)


def test_a_wrong_layout_is_refused_with_what_was_expected() -> None:
    assert "18" in refused("wrong_step", step=17)
    assert "18" in refused("wrong_step", step=6)  # the width instead of the row
    refused("wrong_step", step=0)
    assert "72" in refused("wrong_data_size", data=bytes(71))
    refused("wrong_data_size", data=bytes(73))
    refused("wrong_data_size", data=b"")
    refused("zero_size", width=0)
    refused("zero_size", height=0)
    assert "16384" in refused("too_large", width=20000, step=60000, data=b"")
    refused("too_large", height=10000, width=10000, step=30000, data=b"")
    refused("too_large", height=2**32 - 1, width=2**32 - 1, step=2**32 - 1, data=b"")
    refused("wrong_step", encoding="yuv422", width=5, step=18)


def test_an_encoding_without_colour_is_refused_with_a_hint() -> None:
    assert "did you mean 'rgb8'" in refused("unknown_encoding", encoding="RGB8")
    refused("unknown_encoding", encoding="")
    refused("unknown_encoding", encoding="rgb8\0" * 1000)
    assert "depth" in refused("not_colour", encoding="16UC1")
    assert "depth" in refused("not_colour", encoding="32FC1", step=24)
    assert "no named colours" in refused("not_colour", encoding="8UC3")
    refused("zero_size", encoding="bayer_rggb8", height=2, width=2, step=2)


@settings(max_examples=200, deadline=None)
@given(
    encoding=st.sampled_from(sorted(ENCODINGS)),
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    step=st.integers(0, 80),
    excess=st.integers(-3, 3),
    is_bigendian=st.integers(0, 1),
)
def test_any_layout_is_read_in_full_or_refused(
    encoding: str, height: int, width: int, step: int, excess: int, is_bigendian: int
) -> None:
    data = bytes(max(0, height * step + excess))
    try:
        rgb = pixels_to_rgb(data, height=height, width=width, step=step, encoding=encoding, is_bigendian=is_bigendian)
    except UnusableImage:
        return
    assert rgb.shape == (height, width, 3) and rgb.dtype == np.uint8
    assert excess == 0 and step >= width * ENCODINGS[encoding].pixel_bytes


@pytest.mark.parametrize("is_bigendian", [0, 1])
def test_depth_is_metres_with_nan_for_holes(is_bigendian: int) -> None:
    order = ">" if is_bigendian else "<"
    millimetres = np.array([[0, 1500, 65535]], dtype=f"{order}u2")
    depth = pixels_to_depth_m(
        millimetres.tobytes(), height=1, width=3, step=6, encoding="16UC1", is_bigendian=is_bigendian
    )
    np.testing.assert_allclose(depth, [[np.nan, 1.5, 65.535]], rtol=1e-6)
    metres = np.array([[np.nan, np.inf, -1.0, 0.0, 2.25]], dtype=f"{order}f4")
    depth = pixels_to_depth_m(metres.tobytes(), height=1, width=5, step=20, encoding="32FC1", is_bigendian=is_bigendian)
    np.testing.assert_allclose(depth, [[np.nan, np.nan, np.nan, np.nan, 2.25]])
    with pytest.raises(UnusableImage, match="16UC1"):
        pixels_to_depth_m(bytes(3), height=1, width=1, step=3, encoding="rgb8")


def test_converters_here_need_no_ros() -> None:
    code = "import sys, exaone_ros.ros.pixels, exaone_ros.ros.compressed; sys.exit('rclpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
