"""Parameters of the simulator node as data, and the simulation that they describe."""

from __future__ import annotations

from typing import Any

from exaone_ros.ros.parameters import Parameter
from exaone_ros.sim.faults import FAULTS
from exaone_ros.sim.live import LiveSettings
from exaone_ros.sim.sampling import SceneOptions
from exaone_ros.sim.world import HeadMotion
from exaone_ros.sim.world_file import load_world

PARAMETERS = (
    Parameter("width", 640, "Width of the camera's images.", "px", 16, 1920),
    Parameter("height", 480, "Height of the camera's images.", "px", 16, 1920),
    Parameter("rate_hz", 10.0, "Images per second, as far as the machine keeps up.", "Hz", 0.1, 120.0),
    Parameter("fovy_deg", 48.0, "Vertical field of view of the camera.", "deg", 20.0, 120.0),
    Parameter("camera", True, "Render the camera; else there are joints and poses only, and no OpenGL is needed."),
    Parameter("jpeg_quality", 90, "Of head_camera/image_raw/compressed.", "", 1, 100),
    Parameter(
        "camera_fault",
        "none",
        "What is wrong with the camera: no images; the last one again and again, stamp and all; its pixels with new "
        "stamps; black images.",
        choices=FAULTS,
        live=True,
    ),
    Parameter("joint_rate_hz", 50.0, "Joint states per second.", "Hz", 1.0, 100.0),
    Parameter(
        "world", "", "World to show: a name (tabletop, blocked, empty) or a YAML file; empty = scenes drawn by seed."
    ),
    Parameter("seed", 0, "Of the sequence of scenes: the same seed lays the same tables.", "", 0, 2**31 - 1),
    Parameter("scene_period_s", 0.0, "The table is laid anew each time this has passed; 0 = never.", "s", 0.0, 86400.0),
    Parameter("min_objects", 0, "Fewest objects on the table.", "", 0, 10),
    Parameter("max_objects", 10, "Most objects on the table.", "", 0, 10),
    Parameter("person_share", 0.25, "Share of the scenes with a person.", "", 0.0, 1.0),
    Parameter("obstacle_share", 0.25, "Share of the scenes with an obstacle.", "", 0.0, 1.0),
    Parameter("shadows", True, "Draw shadows; without them rendering takes about half the time."),
    Parameter("antialiasing_samples", 0, "Samples per pixel; 0 = none, 4 doubles the rendering time.", "", 0, 16),
    Parameter("head_pan_amplitude_rad", 0.0, "The head sweeps this far to either side; 0 = still.", "rad", 0.0, 0.7),
    Parameter("head_tilt_amplitude_rad", 0.0, "The head nods this far up and down; 0 = still.", "rad", 0.0, 0.3),
    Parameter("head_period_s", 12.0, "Of the head's sweep.", "s", 0.5, 3600.0),
    Parameter(
        "stepped",
        False,
        "Stand still until the service ~/step asks to go on: deterministic, independent of the machine's speed; "
        "/clock is published.",
    ),
    Parameter(
        "publish_clock",
        False,
        "Publish simulated time on /clock and stamp with it; other nodes then want use_sim_time. "
        "Otherwise stamps are this machine's time.",
    ),
    Parameter("viewer", False, "Open MuJoCo's viewer; needs a display."),
)


def settings_from(values: dict[str, Any]) -> LiveSettings:
    """What to simulate, from the values of PARAMETERS.

    Raises:
        SimulationError: values that do not go together.
    """
    return LiveSettings(
        width=values["width"],
        height=values["height"],
        rate_hz=values["rate_hz"],
        joint_rate_hz=values["joint_rate_hz"],
        seed=values["seed"],
        scene_period_s=values["scene_period_s"],
        camera=values["camera"],
        shadows=values["shadows"],
        samples=values["antialiasing_samples"],
        options=SceneOptions(
            objects=(values["min_objects"], values["max_objects"]),
            person_share=values["person_share"],
            obstacle_share=values["obstacle_share"],
            fovy_deg=(values["fovy_deg"], values["fovy_deg"]),
            camera_jitter=0.0,
        ),
        head_motion=HeadMotion(
            values["head_pan_amplitude_rad"], values["head_tilt_amplitude_rad"], values["head_period_s"]
        ),
        world=load_world(values["world"]) if values["world"] else None,
    )
