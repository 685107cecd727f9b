"""The tokenizer and processor files of the bundled checkpoint.

A byte-fallback BPE without merges and with `ignore_merges`: a piece of the pre-tokenizer that stands in the
vocabulary is one token, everything else falls to its bytes. So a number 0..1000, a piece of JSON scaffolding and every
word of the questions, in the vocabulary's own names, is one token (digit tokens learned four times slower), and any
text still decodes byte for byte: other names too, which training spells in bytes now and then (`other_words`).

Special ids are those published for EXAONE 4.5. The released 33B checkpoint has its own tokenizer: nothing outside
training may rely on a number being one token.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from exaone_ros.errors import require
from exaone_ros.sim import vocabulary
from exaone_ros.tasks import wordings
from exaone_ros.training import phrases

SPECIAL_TOKENS = {
    0: "[PAD]", 1: "[BOS]", 2: "[EOS]", 3: "[UNK]",
    53: "<|endofturn|>", 54: "<|user|>", 55: "<|assistant|>", 56: "<|system|>", 57: "<|tool|>",
    67: "<|image_pad|>", 68: "<|video_pad|>", 73: "<vision>", 74: "</vision>",
}  # fmt: skip
THINK_TOKENS = {75: "<think>", 76: "</think>"}
"""Added tokens but not special ones: they are shown when decoded, as in the release."""

RESERVED = 96
"""Ids below this are added tokens; unnamed ones are called `<|reserved_N|>`."""

EOS_ID = 53
IMAGE_ID = 67
VIDEO_ID = 68
LARGEST_NUMBER = 1000
VOCABULARY_MULTIPLE = 16

SCAFFOLDING = (
    '"},{"bbox_2d":[', '[{"bbox_2d":[', '],"label":"', '","reason":"', '{"choice":"', '{"count":', '"}]', '"}', "[]",
    "\n\n",
)  # fmt: skip
"""Pieces of the JSON that tasks' `answer()` writes, longest match first; and the empty line of the chat template."""

PIECES = "|".join(re.escape(piece) for piece in SCAFFOLDING) + r"|[0-9]+| ?\p{L}+|\n|[^\p{L}0-9]"
"""What the pre-tokenizer cuts text into: scaffolding, numbers, words with the space before them, single characters."""

SHORTEST_EDGE = 78_000
LONGEST_EDGE = 84_800
"""Pixels of the resized image, at least and at most. The two lie so close that the size rule itself fixes the budget of
about 108 visual tokens whatever the camera's resolution: 4:3 -> 252x336, 16:9 -> 196x364 (from 640x360 up), 1:1 ->
280x280."""

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""OpenAI CLIP's, as in the EXAONE 4.5 image processor's defaults."""

CHAT_TEMPLATE = """\
{%- macro text_of(content) -%}
{%- if content is string -%}{{ content }}
{%- else -%}
{%- for part in content -%}
{%- if part.type == 'text' -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{{ '<|user|>\\n' }}
{%- if message.content is not string -%}
{%- for part in message.content -%}
{%- if part.type in ('image', 'image_url') -%}{{ '<vision><|image_pad|></vision>\\n' }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ text_of(message.content) }}{{ '<|endofturn|>\\n' }}
{%- elif message.role == 'assistant' -%}
{{ '<|assistant|>\\n<think>\\n\\n</think>\\n\\n' }}{{ text_of(message.content) }}{{ '<|endofturn|>\\n' }}
{%- elif message.role == 'system' -%}
{{ '<|system|>\\n' }}{{ text_of(message.content) }}{{ '<|endofturn|>\\n' }}
{%- else -%}
{{ raise_exception('unknown role ' ~ message.role) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|assistant|>\\n' }}
{%- if enable_thinking is defined and enable_thinking -%}{{ '<think>\\n' }}
{%- else -%}{{ '<think>\\n\\n</think>\\n\\n' }}
{%- endif -%}
{%- endif -%}
"""


def known_texts() -> list[str]:
    """Every text whose words become tokens, placeholders cut out."""
    texts = [wordings.SYSTEM, *phrases.all_texts(), *wordings.ALL_OBJECTS.values()]
    for table in (wordings.GROUND, wordings.GROUND_ALL, wordings.COUNT, wordings.DECIDE):
        for entries in table.values():
            texts.extend(entries)
    texts.extend(vocabulary.KOREAN.values())
    for word in vocabulary.KOREAN:  # its keys are every English noun, colour and relation of the world
        texts.extend((word, word + "s"))
    return [re.sub(r"\{\w+\}", " ", text) for text in texts]


def vocabulary_words() -> list[str]:
    """The words of `known_texts`, each with and without a space before it, sorted."""
    words = {word for text in known_texts() for word in re.findall(r"[^\W\d_]+", text)}
    return sorted(prefix + word for word in words for prefix in ("", " "))


def build_tokenizer():  # type: ignore[no-untyped-def]  # tokenizers ships no types that mypy can see without it
    """Build the `tokenizers.Tokenizer` of the bundled checkpoint.

    Raises:
        MissingExtra: `tokenizers` is not installed.
    """
    library = require("tokenizers", "train")
    alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
    names = SPECIAL_TOKENS | THINK_TOKENS
    added = [names.get(i, f"<|reserved_{i}|>") for i in range(RESERVED)]
    byte_level = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def spelled(piece: str) -> str:
        return "".join(part for part, _ in byte_level.pre_tokenize_str(piece))

    numbers = [str(n) for n in range(LARGEST_NUMBER + 1)]
    pieces = numbers + [spelled(p) for p in (*SCAFFOLDING, *vocabulary_words())] + alphabet
    tokens = added + list(dict.fromkeys(pieces))
    tokens += [f"<|unused_{i}|>" for i in range(-len(tokens) % VOCABULARY_MULTIPLE)]
    model = library.models.BPE(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], ignore_merges=True, unk_token=None
    )
    tokenizer = library.Tokenizer(model)
    split = library.pre_tokenizers.Split(library.Regex(PIECES), behavior="isolated")
    tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [library.AddedToken(t, special=True, normalized=False) for i, t in enumerate(added) if i not in THINK_TOKENS]
    )
    tokenizer.add_tokens([library.AddedToken(t, special=False, normalized=False) for t in THINK_TOKENS.values()])
    return tokenizer


def first_number_id() -> int:
    """Id of the token "0"; the numbers up to 1000 follow in order."""
    return RESERVED


def write_processor(directory: Path) -> int:
    """Write tokenizer, chat template, image processor and generation settings of the bundled checkpoint.

    Args:
        directory: where to; made if missing, files of the same names are replaced.

    Returns:
        The size of the vocabulary.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    _write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "[BOS]", "eos_token": SPECIAL_TOKENS[EOS_ID],
            "pad_token": "[PAD]", "unk_token": "[UNK]", "clean_up_tokenization_spaces": False, "model_max_length": 4096,
            "padding_side": "left",
        },
    )  # fmt: skip
    _write_json(
        directory / "preprocessor_config.json",
        {
            "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Exaone4_5_Processor",
            "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
            "size": {"shortest_edge": SHORTEST_EDGE, "longest_edge": LONGEST_EDGE},
            "image_mean": IMAGE_MEAN, "image_std": IMAGE_STD, "rescale_factor": 1 / 255,
            "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True, "resample": 3,
        },
    )  # fmt: skip
    _write_json(
        directory / "generation_config.json",
        {"bos_token_id": 1, "eos_token_id": EOS_ID, "pad_token_id": 0, "do_sample": False, "max_new_tokens": 512},
    )
    return int(tokenizer.get_vocab_size())


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
