"""How fast decoding goes and how long answers are, learnt from what was decoded: to know when a deadline is near."""

from __future__ import annotations

from collections import OrderedDict

from exaone_ros.tasks import Task

STEP_WEIGHT = 0.2
"""Of a new step in the running mean."""
LENGTH_DECAY = 0.95
"""Of the longest answer of a task with each shorter one after it."""
FIRST_GUESS_STEPS = 32
TASKS_KEPT = 256


class Pace:
    """Not thread-safe."""

    def __init__(self) -> None:
        self.step_s = 0.0
        """Running mean of a decode step; 0 before the first."""
        self._answers: OrderedDict[tuple[str, str], float] = OrderedDict()

    def stepped(self, seconds: float) -> None:
        """A decode step took so long."""
        self.step_s = seconds if not self.step_s else self.step_s + STEP_WEIGHT * (seconds - self.step_s)

    def answered(self, task: Task, steps: int) -> None:
        """A complete answer took so many steps."""
        key = (task.KIND, task.name)
        self._answers[key] = max(float(steps), self._answers.get(key, 0.0) * LENGTH_DECAY)
        self._answers.move_to_end(key)
        if len(self._answers) > TASKS_KEPT:
            self._answers.popitem(last=False)

    def answer_steps(self, task: Task) -> float:
        """How many steps an answer to this task may well take."""
        known = self._answers.get((task.KIND, task.name))
        return float(min(task.max_tokens, FIRST_GUESS_STEPS)) if known is None else known
