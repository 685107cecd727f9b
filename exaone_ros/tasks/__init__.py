"""What is asked of a frame, and how the answer is read.

Ground, Count, Decide and Ask turn into a prompt and a JSON schema; what was decoded under that schema turns into a
typed result. Knows no torch, no rclpy, no engine and no tokenizer: only text and probabilities.
"""

from exaone_ros.tasks.ask import Answer, Ask
from exaone_ros.tasks.base import StandingTask, Task
from exaone_ros.tasks.count import Count, Counted
from exaone_ros.tasks.decide import Decide, Decided
from exaone_ros.tasks.evidence import Decoded, TokenEvidence
from exaone_ros.tasks.ground import Detection, Ground, Grounding
from exaone_ros.tasks.parse import standing_tasks_from_yaml, task_from_dict, task_to_dict
from exaone_ros.tasks.wordings import SYSTEM

__all__ = [
    "SYSTEM", "Answer", "Ask", "Count", "Counted", "Decide", "Decided", "Decoded", "Detection", "Ground", "Grounding",
    "StandingTask", "Task", "TokenEvidence", "standing_tasks_from_yaml", "task_from_dict", "task_to_dict",
]  # fmt: skip
