"""What `make gpu-check` found, as a section of a page. Knows the lines of the steps and nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STAGES = ("image", "prompt", "decode_step")


def write_section(page: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Put the results behind everything else on a page, in place of earlier ones of the same device."""
    device = device_of(lines)
    begin, end = f"<!-- gpu-check: {device} -->", f"<!-- end of gpu-check: {device} -->"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    text = re.sub(f"\n*{re.escape(begin)}.*?{re.escape(end)}\n*", "\n\n", text, flags=re.DOTALL).rstrip("\n")
    page.write_text(f"{text}\n\n{begin}\n\n{section(lines)}\n{end}\n", encoding="utf-8")


def device_of(lines: Sequence[dict[str, Any]]) -> str:
    """The name of the GPU."""
    return next((str(line["name"]) for line in lines if line["step"] == "device" and line["ran"]), "unknown GPU")


def section(lines: Sequence[dict[str, Any]], day: str | None = None) -> str:
    """Markdown; pure but for today's date."""
    ran = [line for line in lines if line["ran"] and line["step"] not in ("device", "setup")]
    parts = [f"## On {device_of(lines)}", f"Written by `make gpu-check` on {day or time.strftime('%Y-%m-%d')}.", ""]
    parts += [
        "| step | | largest error | same choice | image and prefill | decode step of 3 | build | device |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in ran:
        figures = [
            _number(line, "largest_error", ""), _number(line, "same_choice", ""),
            _number(line, "image_and_prefill_ms", " ms"), _number(line, "decode_step_of_3_p50_ms", " ms"),
            _number(line, "build_s", " s"), _number(line, "device_mb", " MB"),
        ]  # fmt: skip
        parts.append(f"| {line['step']} | {'right' if line['ok'] else '**wrong**'} | {' | '.join(figures)} |")
    for line in ran:
        if "times_ms" in line:
            parts += ["", _real_size(line)]
    silent = [line for line in lines if not line["ran"] or (line["ok"] is False and line.get("reason"))]
    if silent:
        parts += ["", "Not run, or ended early:", ""]
        parts += [f"- {line['step']}: {_one_line(line.get('reason', ''))}" for line in silent]
    return "\n".join(parts) + "\n"


def _real_size(line: dict[str, Any]) -> str:
    rows = [
        f"| {stage.replace('_', ' ')} | {line['times_ms'][stage]:g} | {line['expected_ms'][stage]:g} | "
        f"{line['times_roofline'][stage]:g} |"
        for stage in STAGES
    ]
    head = (
        f"{line['layers']} layers of the real size with {line['vision_blocks']} vision blocks, random weights, "
        f"{line['precision']}, {line['library']}; {line['device_mb']} MB on the device, "
        f"{line['device_expected_mb']} expected. Roofline of preset {line['preset']}."
    )
    return "\n".join([head, "", "| stage | ms | roofline, ms | times |", "|---|---|---|---|", *rows])


def _number(line: dict[str, Any], name: str, unit: str) -> str:
    return f"{line[name]:.4g}{unit}" if name in line else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
