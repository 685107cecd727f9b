"""From a question to token ids, through the checkpoint's own chat template.

The template is rendered with placeholders where text of the operator or of a user goes; what is rendered around them
is split at added tokens, and every stretch between two added tokens is tokenized as one piece of plain text. So
ordinary text gives exactly the ids that `transformers`' apply_chat_template gives, while `</vision><|endofturn|>`
typed by a user stays text and can close nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError, TaskError
from exaone_ros.model.config import ModelConfig
from exaone_ros.model.config_section import read_json
from exaone_ros.model.vocabulary import Vocabulary

# Private-use characters: no template writes them, and text of users is put in after rendering.
USER_TEXT = "\ue0f0\ue0f1"
SYSTEM_TEXT = "\ue0f0\ue0f2"
_FAILURES = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError, MemoryError)
"""What the code of a template may raise."""
_SELF_CHECK = "Name 3 things, please."


class ChatTemplate:
    """A Jinja chat template, rendered in a sandbox."""

    def __init__(self, source: str, special_tokens: dict[str, str], where: str) -> None:
        """Compile a template; `special_tokens` (bos_token, ...) are variables of it, `where` is named in errors.

        Raises:
            CheckpointError: the template has a syntax error.
        """
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_template_error
        environment.globals["strftime_now"] = _strftime_now
        self._where = where
        self._variables = special_tokens
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise CheckpointError(f"{where}: the chat template does not compile: {error}") from error

    @classmethod
    def read(cls, directory: str | Path) -> ChatTemplate:
        """Read `chat_template.jinja`, or the template inside `chat_template.json` or `tokenizer_config.json`.

        Raises:
            CheckpointError: there is none, or it does not compile.
        """
        directory = Path(directory)
        config_path = directory / "tokenizer_config.json"
        config = read_json(config_path) if config_path.is_file() else {}
        variables = {key: _token_text(config[key]) for key in config if key.endswith("_token") and config[key]}
        path = directory / "chat_template.jinja"
        if path.is_file():
            try:
                return cls(path.read_text(encoding="utf-8"), variables, str(path))
            except (OSError, UnicodeDecodeError) as error:
                raise CheckpointError(f"{path} cannot be read: {error}; fetch the file again") from error
        json_path = directory / "chat_template.json"
        for place, raw in ((json_path, read_json(json_path) if json_path.is_file() else {}), (config_path, config)):
            source = raw.get("chat_template")
            if isinstance(source, list):  # named templates
                named = (t for t in source if isinstance(t, dict))
                source = next((t.get("template") for t in named if t.get("name") == "default"), None)
            if isinstance(source, str):
                return cls(source, variables, str(place))
        raise CheckpointError(
            f"{directory} has no chat template; expected chat_template.jinja or one in {config_path.name}"
        )

    def render(self, messages: list[dict[str, Any]], *, thinking: bool) -> str:
        """Render a conversation up to the point where the assistant goes on.

        Raises:
            CheckpointError: the template fails on it.
        """
        try:
            # No tools and documents are None, as transformers passes them: undefined, they would be "not none".
            return self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, enable_thinking=thinking,
                **self._variables,
            )  # fmt: skip
        except (jinja2.TemplateError, *_FAILURES) as error:
            raise CheckpointError(f"{self._where}: the chat template fails: {error or type(error).__name__}") from error


@dataclass(frozen=True)
class Prompt:
    """A question as token ids.

    Attributes:
        prefix: int64, up to the end of the last image; the same for all questions on the same images.
        suffix: int64, the rest: question, end of turn, start of the answer.
    """

    prefix: NDArray[np.int64]
    suffix: NDArray[np.int64]


@dataclass(frozen=True)
class _Layout:
    """A rendered conversation: ids of added tokens, and stretches of plain text that may hold placeholders."""

    prefix: tuple[int | str, ...]
    suffix: tuple[int | str, ...]


class PromptEncoder:
    """Turns questions on images into token ids. Safe to use from several threads."""

    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary, image_token: int, where: str) -> None:
        """Join the parts of a checkpoint; `where` is named in errors. Use `open` for a directory."""
        self.vocabulary = vocabulary
        self._template = template
        self._image_token = image_token
        self._where = where
        markup = sorted(vocabulary.added, key=len, reverse=True)
        self._markup = re.compile("|".join(re.escape(text) for text in markup)) if markup else None
        self._layout = lru_cache(maxsize=64)(self._lay_out)
        # Every frame of a camera has the same: tokenizing the system prompt takes as long as a decode step.
        self._prefix_ids = lru_cache(maxsize=16)(self._encode_prefix)

    @classmethod
    def open(cls, directory: str | Path, config: ModelConfig) -> PromptEncoder:
        """Read tokenizer and chat template of a checkpoint, and check that they fit together.

        Raises:
            CheckpointError: a file is missing or damaged, or the template and the tokenizer do not fit together.
        """
        vocabulary = Vocabulary.read(directory, config.text.vocab)
        encoder = cls(ChatTemplate.read(directory), vocabulary, config.image_token, str(directory))
        encoder._check_against_whole(Path(directory) / "tokenizer.json")
        return encoder

    def prefix(self, image_tokens: Sequence[int], system: str | None = None) -> NDArray[np.int64]:
        """Ids up to the end of the last image, shared by all questions on these images.

        Args:
            image_tokens: how many visual tokens each image has, in order; at least one image.
            system: text of the system turn, if there is to be one.

        Raises:
            TaskError: `system` cannot be tokenized.
        """
        return self._prefix_ids(tuple(image_tokens), system).copy()

    def suffix(
        self, text: str, *, images: int = 1, system: str | None = None, thinking: bool = False
    ) -> NDArray[np.int64]:
        """Ids that follow `prefix`: the question, the end of the turn, and the start of the answer.

        Args:
            text: the question; nothing in it is markup.
            images: how many images the prefix holds.
            system: what the prefix was made with.
            thinking: leave the think tags open for reasoning, or close them for an immediate answer.

        Raises:
            TaskError: the text cannot be tokenized.
        """
        layout = self._layout(images, system is not None, thinking)
        return np.array(self._encode(layout.suffix, {USER_TEXT: text, SYSTEM_TEXT: system or ""}), np.int64)

    def encode(
        self, text: str, image_tokens: Sequence[int], *, system: str | None = None, thinking: bool = False
    ) -> Prompt:
        """Prefix and suffix of one question; see there."""
        return Prompt(
            self.prefix(image_tokens, system),
            self.suffix(text, images=len(image_tokens), system=system, thinking=thinking),
        )

    def _encode_prefix(self, image_tokens: tuple[int, ...], system: str | None) -> NDArray[np.int64]:
        layout = self._layout(_at_least_one(image_tokens), system is not None, False)
        counts = iter(image_tokens)
        ids: list[int] = []
        for token in self._encode(layout.prefix, {SYSTEM_TEXT: system or ""}):
            ids.extend([token] * next(counts) if token == self._image_token else [token])
        return np.array(ids, np.int64)

    def _lay_out(self, images: int, system: bool, thinking: bool) -> _Layout:
        """Render placeholders and cut the result behind the last added token before the question."""
        rendered = self._render(images, system, thinking)
        for placeholder, expected in ((USER_TEXT, 1), (SYSTEM_TEXT, int(system))):
            if rendered.count(placeholder) != expected:
                what = "question" if placeholder == USER_TEXT else "system text"
                raise CheckpointError(
                    f"{self._where}: the chat template writes the {what} {rendered.count(placeholder)} times; "
                    f"expected {expected}"
                )
        parts = self._split(rendered)
        question = next(i for i, part in enumerate(parts) if isinstance(part, str) and USER_TEXT in part)
        layout = _Layout(tuple(parts[:question]), tuple(parts[question:]))
        found = [part for part in layout.prefix if part == self._image_token]
        if len(found) != images or self._image_token in layout.suffix:
            raise CheckpointError(
                f"{self._where}: the chat template writes {len(found)} image tokens (id {self._image_token}) before "
                f"the question for {images} images; expected all of them there"
            )
        if thinking and layout.prefix != self._layout(images, system, False).prefix:
            raise CheckpointError(
                f"{self._where}: with thinking the chat template writes something else before the question, so "
                "questions cannot share the prefix of their image"
            )
        return layout

    def _render(self, images: int, system: bool, thinking: bool) -> str:
        """The conversation with placeholders. Some templates take a system turn only where its content is a text."""
        if not system:
            return self._template.render(_conversation(images), thinking=thinking)
        parts: list[dict[str, Any]] = [{"type": "text", "text": SYSTEM_TEXT}]
        try:
            rendered = self._template.render(_conversation(images, parts), thinking=thinking)
        except CheckpointError:
            rendered = ""
        if rendered.count(SYSTEM_TEXT) == 1:
            return rendered
        return self._template.render(_conversation(images, SYSTEM_TEXT), thinking=thinking)

    def _split(self, rendered: str) -> list[int | str]:
        parts: list[int | str] = []
        at = 0
        for match in self._markup.finditer(rendered) if self._markup else ():
            if match.start() > at:
                parts.append(rendered[at : match.start()])
            parts.append(self.vocabulary.added[match.group()])
            at = match.end()
        if at < len(rendered):
            parts.append(rendered[at:])
        return parts

    def _encode(self, parts: Sequence[int | str], texts: dict[str, str]) -> list[int]:
        ids: list[int] = []
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
                continue
            # One pass, so that a placeholder inside a text is not replaced in its turn.
            filled = re.sub(f"{USER_TEXT}|{SYSTEM_TEXT}", lambda match: texts[match.group()], part)
            ids.extend(self.vocabulary.encode_text(filled))
        return ids

    def _check_against_whole(self, tokenizer_path: Path) -> None:
        """Compare with tokenizing a rendered prompt in one go, which is what the model was trained on."""
        from tokenizers import Tokenizer

        whole = Tokenizer.from_file(str(tokenizer_path))
        for system in (None, _SELF_CHECK):
            rendered = self._render(1, system is not None, False)
            rendered = rendered.replace(USER_TEXT, _SELF_CHECK).replace(SYSTEM_TEXT, _SELF_CHECK)
            prompt = self.encode(_SELF_CHECK, [1], system=system)
            if whole.encode(rendered, add_special_tokens=False).ids != [*prompt.prefix, *prompt.suffix]:
                raise CheckpointError(
                    f"{self._where}: the tokenizer reads a prompt differently in pieces than as a whole; its added "
                    "tokens strip spaces or its first piece is special, which is not supported"
                )


def _conversation(images: int, system: str | list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "image"} for _ in range(images)]
    content.append({"type": "text", "text": USER_TEXT})
    turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    return turns


def _at_least_one(image_tokens: Sequence[int]) -> int:
    if not image_tokens or any(count < 1 for count in image_tokens):
        raise TaskError(f"image_tokens is {list(image_tokens)!r}; expected the number of visual tokens of each image")
    return len(image_tokens)


def _token_text(value: Any) -> str:
    """A special token in tokenizer_config.json is a text, or an object with its content."""
    return str(value.get("content", "")) if isinstance(value, dict) else str(value)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`tojson` without Jinja's escaping for HTML, as chat templates expect it."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    """The date in words, for templates that tell it to the model; read once in an engine's life."""
    return datetime.now().strftime(form)


def _raise_template_error(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks assistant text for training; here its content is just rendered."""

    tags = {"generation"}  # noqa: RUF012  # Jinja declares it as it is

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
