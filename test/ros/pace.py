"""What shows that the machine starved a test's processes: a simulator that follows the wall clock shows it best."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from exaone_ros.sim.live import LiveSettings

MOST_GAP_S = 0.1
"""Between two joint states, which come every 20 ms: commands that heap up for longer than this make an arm jerk."""
LEAST_SPEED = 0.9
"""Of the simulated time against the real one."""
MOST_IMAGE_AGE_S = 1.0
MOST_MISSED_TICKS = 10


@dataclass
class Pace:
    """How a simulator in real time, and an action head, kept up with the clock.

    Attributes:
        joints_s: of each joint state that came, when it came (steady clock) and its stamp (clock of the stamps).
        image_age_s: age of the oldest image when it came.
        missed_ticks: of the action head's control loop.
    """

    joints_s: list[tuple[float, float]] = field(default_factory=list)
    image_age_s: float = 0.0
    missed_ticks: int = 0

    def starved(self) -> list[str]:
        """What shows that somebody waited for a core, in words; empty where all kept up."""
        signs = []
        gaps_s = [max(came - before[0], stamp - before[1]) for before, (came, stamp) in pairwise(self.joints_s)]
        if max(gaps_s, default=0.0) > MOST_GAP_S:
            signs.append(f"no joint states for {max(gaps_s):.2f} s")
        if gaps_s:
            took_s = self.joints_s[-1][0] - self.joints_s[0][0]
            speed = len(gaps_s) / LiveSettings.joint_rate_hz / max(took_s, 1e-9)
            if speed < LEAST_SPEED:
                signs.append(f"simulated time went at {speed:.2f} of the real one")
        if self.image_age_s > MOST_IMAGE_AGE_S:
            signs.append(f"an image was {self.image_age_s:.2f} s old when it came")
        if self.missed_ticks > MOST_MISSED_TICKS:
            signs.append(f"the control loop missed {self.missed_ticks} ticks")
        return signs
