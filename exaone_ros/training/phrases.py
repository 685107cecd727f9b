"""The instructions, options and reasons that training and evaluation put into Decide and Ask: words, no logic.

Grounding and counting take their words from `tasks.wordings` and `sim.vocabulary`. Every text here is short, because
the bundled checkpoint learns each word as one token (see `training.tokenizer`).
"""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = ("en", "ko")

WAY_INSTRUCTIONS = {
    "en": (
        "Is the way clear?",
        "Is the path clear?",
        "May the robot move forward?",
        "Can the robot move forward?",
        "Is it safe to move?",
        "What is in the way?",
    ),
    "ko": (
        "길이 비어 있어?",
        "로봇이 앞으로 가도 돼?",
        "움직여도 안전해?",
        "앞에 무엇이 있어?",
    ),
}


@dataclass(frozen=True)
class WayOptions:
    """Options of a question about the way: what to choose when it is clear, when an obstacle or a person is seen."""

    clear: str
    blocked: str
    person: str

    @property
    def distinct(self) -> tuple[str, ...]:
        """The options without repetition."""
        return tuple(dict.fromkeys((self.clear, self.blocked, self.person)))


WAY_OPTIONS = {
    "en": (
        WayOptions("clear", "blocked", "person"),
        WayOptions("clear", "blocked", "person"),
        WayOptions("clear", "blocked", "blocked"),
        WayOptions("go", "stop", "stop"),
        WayOptions("yes", "no", "no"),
        WayOptions("move forward", "stop", "stop"),
        WayOptions("forward", "stop", "wait"),
        WayOptions("go", "stop", "wait"),
        WayOptions("nothing", "obstacle", "person"),
    ),
    "ko": (
        WayOptions("비어 있음", "막힘", "사람"),
        WayOptions("비어 있음", "막힘", "막힘"),
        WayOptions("전진", "정지", "정지"),
        WayOptions("예", "아니요", "아니요"),
        WayOptions("전진", "정지", "대기"),
        WayOptions("없음", "장애물", "사람"),
    ),
}
"""A person goes before an obstacle: where both are seen the answer is the person's."""

WAY_REASONS = {
    "en": {
        "clear": "nothing is in the way",
        "blocked": "an obstacle is in the way",
        "person": "a person is in view",
    },
    "ko": {
        "clear": "앞에 아무것도 없음",
        "blocked": "앞에 장애물이 있음",
        "person": "사람이 보임",
    },
}

YES_NO = {"en": ("yes", "no"), "ko": ("예", "아니요")}

PRESENCE_INSTRUCTIONS = {
    "en": ("Is there a {label}?", "Is a {label} visible?", "Do you see a {label}?"),
    "ko": ("{label} 있어?", "{label} 보여?"),
}

PICK_INSTRUCTIONS = {
    "en": (
        "Pick the {label}.",
        "Pick up the {label}.",
        "Which object is the {label}?",
        "Take the {label}.",
        "Grasp the {label}.",
    ),
    "ko": ("{label} 집어.", "{label} 잡아 줘.", "{label} 골라."),
}

SIDE_INSTRUCTIONS = {
    "left": {
        "en": (
            "Pick what is left of the {label}.",
            "What is left of the {label}?",
            "Pick the object left of the {label}.",
        ),
        "ko": ("{label} 왼쪽 물체 집어.", "{label} 왼쪽에 무엇이 있어?"),
    },
    "right": {
        "en": (
            "Pick what is right of the {label}.",
            "What is right of the {label}?",
            "Pick the object right of the {label}.",
        ),
        "ko": ("{label} 오른쪽 물체 집어.", "{label} 오른쪽에 무엇이 있어?"),
    },
}

NOTHING = {"en": ("nothing", "none"), "ko": ("없음",)}

OBJECT_REASONS = {
    "en": {
        "seen": "there is a {label} on the table",
        "absent": "no {label} is visible",
        "leftmost": "it is the leftmost",
        "rightmost": "it is the rightmost",
        "nearest": "it is the nearest",
        "largest": "it is the largest",
        "left": "it is left of the {label}",
        "right": "it is right of the {label}",
        "no_left": "nothing is left of the {label}",
        "no_right": "nothing is right of the {label}",
        "none_left": "none is left of the {label}",
        "none_right": "none is right of the {label}",
    },
    "ko": {
        "seen": "{label} 있음",
        "absent": "{label} 보이지 않음",
        "leftmost": "맨 왼쪽에 있음",
        "rightmost": "맨 오른쪽에 있음",
        "nearest": "가장 가까이 있음",
        "largest": "가장 큼",
        "left": "{label} 왼쪽에 있음",
        "right": "{label} 오른쪽에 있음",
        "no_left": "{label} 왼쪽에 아무것도 없음",
        "no_right": "{label} 오른쪽에 아무것도 없음",
        "none_left": "{label} 왼쪽에 없음",
        "none_right": "{label} 오른쪽에 없음",
    },
}

SEE_QUESTIONS = {
    "en": ("What do you see?", "Describe the image.", "What is on the table?"),
    "ko": ("무엇이 보여?", "이미지를 설명해 줘.", "테이블 위에 무엇이 있어?"),
}
SEE_ANSWERS = {
    "en": {"some": "I see {labels}.", "none": "I see no objects.", "and": " and "},
    "ko": {"some": "보이는 것: {labels}.", "none": "물체가 보이지 않음.", "and": ", "},
}

THOUGHTS = {
    "en": {
        "objects": "I see {labels}.",
        "empty": "The table is empty.",
        "person": "A person is in view.",
        "obstacle": "An obstacle is in the way.",
        "clear": "The way is clear.",
        "count": "So the count is {count}.",
        "choice": "So the answer is {choice}.",
    },
    "ko": {
        "objects": "보이는 것: {labels}.",
        "empty": "테이블이 비어 있음.",
        "person": "사람이 보임.",
        "obstacle": "앞에 장애물이 있음.",
        "clear": "길이 비어 있음.",
        "count": "그래서 개수는 {count}.",
        "choice": "그래서 답은 {choice}.",
    },
}


def all_texts() -> list[str]:
    """Every text of this module, placeholders included: what the tokenizer must know."""
    texts: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, WayOptions):
            texts.extend(value.distinct)
        elif isinstance(value, dict):
            for entry in value.values():
                collect(entry)
        elif isinstance(value, tuple):
            for entry in value:
                collect(entry)

    for table in (
        WAY_INSTRUCTIONS, WAY_OPTIONS, WAY_REASONS, YES_NO, PRESENCE_INSTRUCTIONS, PICK_INSTRUCTIONS, SIDE_INSTRUCTIONS,
        NOTHING, OBJECT_REASONS, SEE_QUESTIONS, SEE_ANSWERS, THOUGHTS,
    ):  # fmt: skip
        collect(table)
    return texts
