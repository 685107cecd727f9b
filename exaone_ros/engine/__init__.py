"""Running the model: many tasks on one look at a frame, decoded under a grammar, on any backend. Knows no rclpy."""

from exaone_ros.engine.answers import FrameAnswers, TaskAnswer
from exaone_ros.engine.engine import Engine, Frame
from exaone_ros.engine.request import Picture, Request
from exaone_ros.engine.sampling import GENERAL, GREEDY, OCR_KOREAN, Sampling
from exaone_ros.engine.scheduling import Scheduling
from exaone_ros.engine.sequence import Outcome
from exaone_ros.engine.service import EngineService
from exaone_ros.engine.ticket import Ticket
from exaone_ros.engine.timings import Timings

__all__ = [
    "GENERAL", "GREEDY", "OCR_KOREAN", "Engine", "EngineService", "Frame", "FrameAnswers", "Outcome", "Picture",
    "Request", "Sampling", "Scheduling", "TaskAnswer", "Ticket", "Timings",
]  # fmt: skip
