"""The ROS 2 package exaone_ros, built by colcon (ament_python) or pip."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "exaone_ros"

# What every backend needs to turn a checkpoint and tasks into graphs, grammars and tokens.
ENGINE = ["llguidance>=1.9.1,<2", "ml_dtypes>=0.5,<1", "onnx>=1.18,<2", "tokenizers>=0.20,<1"]
REFERENCE = ["pillow>=10", "torch>=2.6", "transformers>=5.23,<6"]
SIMULATION = ["mujoco>=3.2,<5"]
BAGS = ["rosbags>=0.10.10,<0.12"]
TESTING = [*BAGS, "hypothesis>=6.100", "jsonschema>=4.17", "pytest>=7.4", "urdf-parser-py>=0.0.4"]

EXTRAS = {
    "cpu": [*ENGINE, "onnxruntime>=1.22,<2"],
    "gpu": [*ENGINE, "onnxruntime-gpu>=1.22,<2"],
    "tensorrt": [*ENGINE, "tensorrt>=10.3"],
    "tensorrt-rtx": [*ENGINE, "tensorrt-rtx-cu13-bindings==1.7.1.116", "tensorrt-rtx-cu13-libs==1.7.1.116"],
    "torch": [*ENGINE, *REFERENCE],
    "server": ["openai>=3,<4"],
    "sim": SIMULATION,
    "record": [*BAGS, "av>=12", "pyarrow>=14"],
    "demo": [*ENGINE, *SIMULATION, "onnxruntime>=1.22,<2", *BAGS, "psutil>=5.9", "rich>=13"],
    "view": ["rerun-sdk>=0.24,<1"],
    "train": [*ENGINE, *REFERENCE, *SIMULATION, "safetensors>=0.4", "tqdm>=4.60"],
    "dev": [*TESTING, "mypy>=1.10", "ruff>=0.6"],
    "test": TESTING,  # by this name colcon knows that `colcon test` means pytest
}


def shared_files(*folders: str) -> list[tuple[str, list[str]]]:
    """What `share/exaone_ros` holds: every file below `folders`, where it lies in the repository."""
    below: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                below.setdefault(f"share/{PACKAGE}/{path.parent.as_posix()}", []).append(path.as_posix())
    return list(below.items())


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Camera frames in; boxes, counts and reasoned decisions out: EXAONE 4.5 for robots, as ROS 2 topics.",
    maintainer="exaone_ros maintainers",
    maintainer_email="maintainers@example.com",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["**/*.xml", "**/*.json", "**/*.yaml", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *shared_files("config", "description", "launch", "models", "worlds"),
    ],
    # rclpy and the messages come from ROS: see package.xml.
    install_requires=["Jinja2>=3.0", "numpy>=1.23,<3", "opencv-python>=4.6,<5", "PyYAML>=5.4", "setuptools"],
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"compile = {PACKAGE}.cli.main:compile_main",
            f"doctor = {PACKAGE}.cli.main:doctor_main",
            f"action_head = {PACKAGE}.nodes.action_head:main",
            f"arm_probe = {PACKAGE}.nodes.arm_probe:main",
            f"cameras_probe = {PACKAGE}.nodes.cameras_probe:main",
            f"companion = {PACKAGE}.nodes.companion:main",
            f"demo = {PACKAGE}.nodes.demo:main",
            f"exaone = {PACKAGE}.cli.main:main",
            f"gazebo_truth = {PACKAGE}.nodes.gazebo_truth:main",
            f"perception = {PACKAGE}.nodes.perception:main",
            f"probe = {PACKAGE}.nodes.probe:main",
            f"report = {PACKAGE}.cli.main:report_main",
            f"realtime = {PACKAGE}.nodes.realtime:main",
            f"replay = {PACKAGE}.nodes.replay:main",
            f"scenario = {PACKAGE}.nodes.scenario:main",
            f"rerun_view = {PACKAGE}.nodes.rerun_view:main",
            f"simulator = {PACKAGE}.nodes.simulator:main",
        ],
    },
)
