"""The C++ of the tutorials compiles against the C++ headers of the messages.

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
void init(int, char**);
void spin(std::shared_ptr<Node>);
bool shutdown();
}  // namespace rclcpp
#define RCLCPP_INFO(logger, ...) ((void)(logger), std::printf(__VA_ARGS__))
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
