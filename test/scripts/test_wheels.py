"""Environments do not leak into each other, and the wheels' exports are put right."""

from __future__ import annotations

from provision.environment import FASTDDS_PROFILE, ROOT, running_variables
from provision.wheels import with_include_paths, without_ros


def test_nothing_of_another_ros_or_python_is_inherited() -> None:
    kept = {"HOME": "/h", "PATH": "/usr/bin", "ROS_DOMAIN_ID": "7", "PIP_INDEX_URL": "x"}
    leaks = {"LD_LIBRARY_PATH": "x", "PYTHONPATH": "x", "AMENT_PREFIX_PATH": "x", "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}
    assert without_ros({**kept, **leaks}) == kept


def test_the_image_profile_is_set_under_both_names() -> None:
    variables = running_variables({})
    assert (
        variables["FASTDDS_DEFAULT_PROFILES_FILE"]
        == variables["FASTRTPS_DEFAULT_PROFILES_FILE"]
        == str(FASTDDS_PROFILE)
    )
    assert FASTDDS_PROFILE.is_file()


def test_what_the_user_has_set_stays() -> None:
    mine = {"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml", "MUJOCO_GL": "osmesa", "PYTHONPATH": "/mine"}
    variables = running_variables(mine)
    assert variables["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/mine.xml"
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in variables
    assert variables["MUJOCO_GL"] == "osmesa"
    assert variables["PYTHONPATH"] == f"{ROOT}:/mine"


def test_exports_of_the_wheels_lead_to_this_machine() -> None:
    there = "/opt/python/cp311-cp311"
    numpy = f"{there}/lib/python3.11/site-packages/numpy/_core/include"
    export = f'set(A "{there}/include/python3.11;{numpy};/usr/include")\nset(B "{numpy}")\n'
    wanted = 'set(A "/here/python;/here/numpy;/usr/include")\nset(B "/here/numpy")\n'
    assert with_include_paths(export, "/here/python", "/here/numpy") == wanted
    assert with_include_paths(wanted, "/here/python", "/here/numpy") == wanted
