"""Decide: one of these options, how probable each is, and why."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from exaone_ros.errors import TaskError
from exaone_ros.tasks import wordings
from exaone_ros.tasks.base import (
    MAX_TEXT_CHARS,
    Task,
    as_asked,
    checked_index,
    checked_labels,
    checked_text,
    one_line,
    shown,
)
from exaone_ros.tasks.evidence import Decoded
from exaone_ros.tasks.written import spellings, value_spans

MAX_REASON_CHARS = 160

LONGEST_CHARACTER = len("\\u0000")
"""Bytes of a character of a JSON string at most."""

LAYOUT_BYTES = 32
"""Room for the spaces and line breaks of servers that write them."""

SURE = 0.99
"""Of a choice this probable it does not matter that nothing is known of the other options."""


@dataclass(frozen=True)
class Decided:
    """A choice among options.

    Attributes:
        choice: one of the options.
        options: as asked, in the same order.
        probabilities: of each option, summing to 1 (see `option_probabilities`); empty where unknown.
        reason: one short sentence by the model, empty where none was asked for.
        reasoning: the text between the think tags, empty without thinking.
    """

    choice: str
    options: tuple[str, ...]
    probabilities: tuple[float, ...]
    reason: str = ""
    reasoning: str = ""


@dataclass(frozen=True, kw_only=True)
class Decide(Task):
    """Choose one option.

    Attributes:
        instruction: what to judge, e.g. ``"May the robot move forward?"``.
        options: 2 to 64 distinct choices.
        reason: ask for a short reason after the choice.
        wording: which of the wordings to use.
    """

    KIND: ClassVar[str] = "decide"

    instruction: str = ""
    options: tuple[str, ...] = ()
    reason: bool = True
    wording: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        what = f"task '{self.name}'"
        checked_index(self.wording, f"{what}: wording")
        if not isinstance(self.reason, bool):
            raise TaskError(f"{what}: reason is {shown(self.reason)}; expected true or false")
        instruction = checked_text(self.instruction, f"{what}: instruction", MAX_TEXT_CHARS, newlines=True)
        object.__setattr__(self, "instruction", instruction)
        object.__setattr__(self, "options", checked_labels(self.options, f"{what}: options", least=2))

    def prompt(self) -> str:
        choices = wordings.DECIDE[self.language]
        wording = choices[self.wording % len(choices)]
        return wordings.fill(wording, instruction=self.instruction, options=", ".join(self.options))

    def schema(self) -> dict[str, Any]:
        properties: dict[str, Any] = {"choice": {"enum": list(self.options)}}
        if self.reason:
            properties["reason"] = {"type": "string", "maxLength": MAX_REASON_CHARS}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    @property
    def max_tokens(self) -> int:
        """No token is shorter than a byte, so that no answer under the schema is cut."""
        choice = max(len(spelling) for option in self.options for spelling in spellings(option))
        reason = MAX_REASON_CHARS * LONGEST_CHARACTER if self.reason else 0
        return len(self.answer("", "")) + LAYOUT_BYTES + choice + reason

    def read(self, decoded: Decoded, width_px: int, height_px: int) -> Decided:
        try:
            answer = json.loads(decoded.text)
            said, reason = answer["choice"], answer.get("reason", "")
            choice = as_asked(said, self.options) if isinstance(said, str) else None
            if choice is None:
                raise ValueError(f"{said!r} is none of the options")
            if not isinstance(reason, str):
                raise ValueError(f"the reason {reason!r} is no text")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TaskError(f"task '{self.name}': {decoded.text[:120]!r} is not a decision: {error}") from error
        probabilities = option_probabilities(decoded, self.options, choice)
        return Decided(choice, self.options, probabilities, one_line(reason), decoded.reasoning)

    @staticmethod
    def answer(choice: str, reason: str) -> str:
        """The JSON that a perfect model writes (for training)."""
        return json.dumps({"choice": choice, "reason": reason}, ensure_ascii=False, separators=(",", ":"))


def option_probabilities(decoded: Decoded, options: tuple[str, ...], choice: str) -> tuple[float, ...]:
    """Probability of each option, read from the tokens on the way to the chosen one.

    At each token where the way to the chosen option could have turned off, the probability of every other allowed
    token belongs to the options whose JSON text, spelled as the choice is, goes on with that token's bytes. Where
    several options share such a branch that was not taken, their common probability is split evenly among them, as
    nothing finer is known. The result sums to 1.

    Returns:
        One probability for each option; empty where it is unknown: `decoded` carries no tokens, or only such of
        probability 0, the choice is spelled in a way that is not foreseen, or the model was not sure of it and none of
        the tokens that it might have written instead leads to another option.
    """
    if not decoded.tokens:
        return ()
    raw = decoded.text.encode()
    begin, end = value_spans(decoded.text)[("choice",)]
    first = begin + 1  # behind the opening quote
    chosen = options.index(choice)
    ways = zip(*[[raw[:begin] + spelling for spelling in spellings(option)] for option in options], strict=True)
    written = [answers for answers in ways if answers[chosen] == raw[:end]]  # nobody mixes them in one answer
    mass = [0.0] * len(options)
    reach = 1.0 if written else 0.0  # probability that decoding comes this far
    for start, stop, token in decoded.spans():
        if stop <= first:  # what stands before the choice says nothing about it
            continue
        alive = [
            {i: answer[start:] for i, answer in enumerate(answers) if answer[:start] == raw[:start] and answer[start:]}
            for answers in written
        ]
        if all(len(rests) <= 1 for rests in alive):
            break
        before = token.agreement(first - start)  # 1 but for a token that begins before the choice
        reach = reach / before if before else 0.0
        for text, probability in token.alternatives:
            if text == token.text or len(text) <= first - start:
                continue
            led = ([i for i, rest in rests.items() if _goes_on(rest, text)] for rests in alive)
            heirs = next(filter(None, led), [])
            for i in heirs:
                mass[i] += reach * probability / len(heirs)
        reach *= token.probability
    mass[chosen] += reach
    total = math.fsum(mass)
    if total == mass[chosen] < SURE:  # no other option was among the tokens that we were told of
        return ()
    return tuple(m / total for m in mass)


def _goes_on(rest: bytes, text: bytes) -> bool:
    """True if `text` can stand next in an answer of which `rest` is still to come (it may reach past the option)."""
    return rest.startswith(text) or text.startswith(rest)
