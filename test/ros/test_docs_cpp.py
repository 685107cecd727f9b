"""The C++ of the tutorials compiles against the C++ headers of the messages, and the package it stands in is built.

The wheels have the headers of messages, but no rclcpp: where it is missing, a few declarations stand in for it, so that
the names and types of the messages' fields are checked, and what is asked of rclcpp is not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

import rclpy  # noqa: F401  (its wheels or its apt packages bring the headers)
from docs_pages import blocks

RCLCPP = """
#pragma once
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <utility>
namespace rclcpp {
struct Logger {};
template <class Message> struct Subscription { using SharedPtr = std::shared_ptr<Subscription>; };
class Node {
 public:
  explicit Node(const std::string&) {}
  virtual ~Node() = default;
  Logger get_logger() const { return {}; }
  template <class Message, class Callback>
  typename Subscription<Message>::SharedPtr create_subscription(const std::string&, int, Callback&& callback) {
    std::function<void(typename Message::ConstSharedPtr)> taken(std::forward<Callback>(callback));
    return std::make_shared<Subscription<Message>>();
  }
};
inline void init(int, char**) {}
inline void spin(std::shared_ptr<Node>) {}
inline bool shutdown() { return true; }
}  // namespace rclcpp
#define RCLCPP_INFO(logger, ...) ((void)(logger), std::printf(__VA_ARGS__))
"""

RCLCPP_CMAKE = """
add_library(rclcpp::rclcpp INTERFACE IMPORTED)
set_target_properties(rclcpp::rclcpp PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_LIST_DIR}/../../../include")
"""


def include_folders() -> list[Path]:
    """The folders of headers of every ROS package that is installed."""
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", sys.prefix).split(os.pathsep) if prefix]
    return [folder for prefix in prefixes for folder in sorted((prefix / "include").glob("*")) if folder.is_dir()]


def test_the_subscriber_in_cpp_compiles(tmp_path: Path) -> None:
    folders = include_folders()
    if shutil.which("g++") is None or not any(
        (f / "vision_msgs/msg/detection2_d_array.hpp").is_file() for f in folders
    ):
        pytest.skip("no g++, or no C++ headers of vision_msgs")
    (text,) = (text for page, text in blocks("cpp") if page == "docs/tutorials.md")
    (tmp_path / "listener.cpp").write_text(text, encoding="utf-8")
    if not any((folder / "rclcpp/rclcpp.hpp").is_file() for folder in folders):
        (tmp_path / "rclcpp").mkdir()
        (tmp_path / "rclcpp" / "rclcpp.hpp").write_text(RCLCPP, encoding="utf-8")
    command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", f"-I{tmp_path}", *(f"-isystem{f}" for f in folders)]

    def compiled(file: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, file], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    done = compiled("listener.cpp")
    assert done.returncode == 0, done.stderr
    (tmp_path / "wrong.cpp").write_text(text.replace("hypothesis", "guess"), encoding="utf-8")
    assert compiled("wrong.cpp").returncode != 0, "a field that does not exist is not noticed"


def test_the_package_of_the_subscriber_is_built(tmp_path: Path) -> None:
    """By CMake alone, with a stand-in for rclcpp where it is missing: colcon calls nothing else for such a package."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", sys.prefix).split(os.pathsep)
    found = [name for name in ("ament_cmake", "vision_msgs", "rclcpp") if any_has(prefixes, f"share/{name}/cmake")]
    if shutil.which("cmake") is None or shutil.which("g++") is None or found[:2] != ["ament_cmake", "vision_msgs"]:
        pytest.skip("no cmake, no g++, or no ament_cmake and vision_msgs for it")
    for language, file in (("cpp", "src/listener.cpp"), ("cmake", "CMakeLists.txt"), ("xml", "package.xml")):
        (text,) = (text for page, text in blocks(language) if page == "docs/tutorials.md")
        write(tmp_path / "listener" / file, text)
    if "rclcpp" not in found:
        write(tmp_path / "stub/include/rclcpp/rclcpp.hpp", RCLCPP)
        write(tmp_path / "stub/share/rclcpp/cmake/rclcppConfig.cmake", RCLCPP_CMAKE)
        prefixes = [str(tmp_path / "stub"), *prefixes]
    command = f"""
        cmake -S listener -B build -DCMAKE_INSTALL_PREFIX=out '-DCMAKE_PREFIX_PATH={";".join(prefixes)}'
        cmake --build build
        cmake --install build
    """
    done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out/lib/listener/listener").is_file(), "where `ros2 run` looks for it"
    asked = tmp_path / "out/share/ament_index/resource_index/package_run_dependencies/listener"
    assert set(asked.read_text(encoding="utf-8").split(";")) == {"rclcpp", "vision_msgs"}


def any_has(prefixes: list[str], path: str) -> bool:
    return any((Path(prefix) / path).is_dir() for prefix in prefixes)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
