"""The model card of the bundled checkpoint, written from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exaone_ros.errors import CheckpointError
from exaone_ros.training import acceptance, stress_report, targets
from exaone_ros.training.acceptance import WorthReport
from exaone_ros.training.evaluate import markdown
from exaone_ros.training.measured import DIGITS, STRESS_FILE, WORTH_FILE, doubt
from exaone_ros.training.splits import HELD_OUT_PAIRS

CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
language: [en, ko]
---

# {name}

A checkpoint of {parameters:.1f} million parameters in the architecture of EXAONE 4.5
(`Exaone4_5_ForConditionalGeneration`), trained from scratch on rendered tabletop scenes. It grounds, counts and
decides on the simulated camera of this package, so that everything runs without the 33B weights. **It contains no
EXAONE weights and nothing derived from them**, knows nothing beyond its scenes, and must not be used to judge what
EXAONE 4.5 can do. Apache-2.0, like the code.

## What it knows

Cubes, balls, cylinders and mugs in red, orange, yellow, green, blue, purple, white and black, up to ten on a table; a
person and an obstacle. Questions in English and Korean, in the words of `exaone_ros.tasks.wordings` and
`exaone_ros.training.phrases`; other words are spelled in bytes, and few were taught
(`exaone_ros.training.other_words`). Images of any size are resized to about 108 visual tokens (4:3 becomes 252x336).

## How it was made

{made}

```
python -m exaone_ros.training all --run runs/tabletop --pool runs/pool --model models/mine    # makes one like it
python -m exaone_ros.training {evaluate:<61}  # measures this one again
```

The frames come from a fast 2.5D renderer and from MuJoCo (training seeds only). Colour and shape pairs
never shown in training: {heldout}.

## What was measured

Through the package's ONNX Runtime engine, greedy, under the grammar, first wording of each question, on frames of
seeds that training never used; value ± half of the 95% confidence interval (Wilson for shares, resampled frames for
F1). "mujoco" is the simulated head camera at 640x480 with shadows; the columns after "flat" are MuJoCo under other
conditions, except "plain areas": the same scenes in flat colours, by a renderer that training never saw. "thinking"
asks the main column's counts and decisions with reasoning between the think tags first (it was trained on a small share
of the questions). {frames} frames in the first three columns, a third of that in the others. All of it is of the
weights `{weights}` (SHA-256 over configuration and weights, its first digits).

{table}

Against what it must reach and what it aims at ("unsure": the bound lies within the 95% interval, whose ends stand in
brackets, or its half behind ± where the ends were not written down):

{targets}

`ground_one`: the only object of a name; `ground_each`: a name that several objects share, each of them. `list_f1`:
every object, label right, IoU at least 0.5. `ground_class`, `hindrance`: every box of the answer right. `count_*`,
`decide_*`: exact. `absent`: an object that is not there is answered with nothing. Slivers (objects that show less than
35% of themselves, or next to nothing) are not asked about.
{breaks}{drafts}
## What was not measured

Real camera images; other renderers than those of the columns (Gazebo among them); {words}free questions (Ask).
"""


BUNDLED = "exaone4_5-tabletop-tiny"
NOT_SAID = "Not written down: `evaluate --card` was not told (`--made`)."

BREAKS = """
## Where it breaks

{frames} scenes of the split "{split}" under {number} changes: `python -m exaone_ros.training stress`. This is a
development set, not a held-out one: its first tables chose what training draws since, on purpose close to some of these
changes and words, and in part the same. The held-out figures are those of the table further up. So few frames show a
collapse, not a difference of some hundredths. Rows where a figure is clearly worse than unchanged (the two 95%
intervals do not meet), then how it does in other words, and what it says of pictures that show nothing:

{tables}
"""

DRAFTS = """
## Drafts

The weights `mtp.*` are a layer for multi-token prediction, trained on the finished trunk; `transformers` passes them
by. Three standing questions, each alone, on validation frames shown three times with noise (`acceptance`): decode steps
of an answer without and with guesses of the layer (`mtp n`), from the last answer to the same question
(`previous n`), or from what often followed the last tokens so far (`ngram n`). Drafts change no answer, but that a
step of more tokens adds up in another order: an answer differs where two tokens were tied to the last digit of float32.

{table}
"""


def write_card(
    path: Path,
    report: dict[str, Any],
    made: str,
    parameters: int,
    drafts: WorthReport | None = None,
    breaks: dict[str, Any] | None = None,
) -> None:
    """Write the model card.

    Args:
        path: of README.md.
        report: what `evaluate` measured: "model", "weights", "frames" and "tables".
        made: a paragraph on the training run (machine, time, frames); "" = the card says that it was not told.
        parameters: how many the model has.
        drafts: what `acceptance` measured, where it was.
        breaks: what `stress` measured, where it was.

    Raises:
        CheckpointError: drafts or breaks were not measured on the report's weights.
    """
    if drafts is not None:
        refuse_other(path.parent / WORTH_FILE, drafts.weights, report["weights"])
    if breaks is not None:
        refuse_other(path.parent / STRESS_FILE, breaks["weights"], report["weights"])
    heldout = ", ".join(sorted(" ".join(pair) for pair in HELD_OUT_PAIRS))
    table = markdown(report["tables"])
    about_drafts = DRAFTS.format(table=acceptance.markdown(drafts.worth)) if drafts is not None else ""
    name = report["model"]
    text = CARD.format(
        name=name,
        parameters=parameters / 1e6,
        made=made or NOT_SAID,
        evaluate="evaluate" if name == BUNDLED else f"evaluate --model models/{name}",
        frames=report["frames"],
        heldout=heldout,
        table=table,
        drafts=about_drafts,
        breaks="" if breaks is None else _breaks(breaks),
        words="words outside of the wordings; " if breaks is None else "",
        weights=report["weights"][:DIGITS],
        targets=targets.markdown(targets.verdicts(report["tables"])),
    )
    path.write_text(text, encoding="utf-8")


def _breaks(found: dict[str, Any]) -> str:
    number = len(found["conditions"]) - 1
    return BREAKS.format(frames=found["frames"], split=found["split"], number=number, tables=stress_report.brief(found))


MEASURED_BY = {WORTH_FILE: "acceptance", STRESS_FILE: "stress"}


def refuse_other(file: Path, said: str | None, weights: str) -> None:
    """Refuse figures that are not of these weights.

    Args:
        file: in the model's folder, that holds them.
        said: fingerprint that stands in it.
        weights: the model's.

    Raises:
        CheckpointError: they are of others, or the file does not say of which.
    """
    reason = doubt(file, said, weights)
    if reason:
        command = f"{MEASURED_BY[file.name]} --model {file.parent} --json {file}"
        raise CheckpointError(
            f"{reason}; a card shows figures of one model: run `{command}` first, or delete the file to have a card "
            "without them"
        )
