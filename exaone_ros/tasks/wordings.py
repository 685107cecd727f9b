"""The words of the questions: one source for asking and for training.

The first wording of each list is what the tasks ask; the others exist so that training and evaluation cover how
people put the same question. `{labels}`, `{label}`, `{instruction}` and `{options}` are filled in by the tasks.
"""

import re

SYSTEM = (
    "You are the eyes and the judgement of a robot. Boxes are [x1,y1,x2,y2], scaled to 0..1000. "
    "Reply in JSON when boxes, counts or a choice are asked for."
)

GROUND = {
    "en": (
        "Locate: {labels}.",
        "Find {labels}.",
        "Detect every {labels} in the image.",
        "Where is {labels}?",
        "Give the boxes of {labels}.",
    ),
    "ko": (
        "위치 찾기: {labels}.",
        "{labels} 찾아 줘.",
        "이미지에서 {labels} 모두 검출해.",
        "{labels} 어디에 있어?",
    ),
}

GROUND_ALL = {
    "en": (
        "Locate every object.",
        "Detect all objects in the image.",
        "List everything that you see.",
        "Find all objects.",
    ),
    "ko": (
        "모든 물체의 위치를 찾아.",
        "이미지의 모든 물체를 검출해.",
        "보이는 것을 모두 나열해.",
    ),
}

COUNT = {
    "en": (
        "Count: {label}.",
        "How many {label} are there?",
        "What is the number of {label}?",
        "How many {label} do you see?",
    ),
    "ko": (
        "개수: {label}.",
        "{label} 몇 개 있어?",
        "{label} 개수를 세어 줘.",
    ),
}

ALL_OBJECTS = {"en": "all objects", "ko": "모든 물체"}

DECIDE = {
    "en": (
        "{instruction} Options: {options}.",
        "{instruction} Choose one: {options}.",
        "{instruction} Answer with one of: {options}.",
    ),
    "ko": (
        "{instruction} 선택지: {options}.",
        "{instruction} 하나를 골라: {options}.",
    ),
}


def fill(wording: str, **values: str) -> str:
    """Fill each placeholder once, in one pass: braces in a value stay what they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values[match.group(1)], wording)
