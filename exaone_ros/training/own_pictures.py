"""Pictures of one's own objects: COCO JSON and image files become labelled frames of what is named there.

What training needs of COCO's format is `images` (id, file_name), `categories` (id, name) and `annotations` (image_id,
category_id, bbox in pixels; iscrowd and polygons where there are any). A category may also say `plural` and `korean`.
Every object of every category must be marked on every picture: what is not marked is taught as not there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exaone_ros.errors import DatasetError, TaskError
from exaone_ros.sim.frame import Box
from exaone_ros.tasks.base import checked_labels

HELD_OUT_ONE_IN = 5
"""Of the pictures, chosen by their file names: so a picture stays on its side when others are added."""


@dataclass(frozen=True)
class OwnNames:
    """What the objects are called.

    Attributes:
        names: English names, in the order of the categories.
        plurals: of the names that do not just take an "s".
        korean: Korean names; questions are asked in Korean where every name has one.
    """

    names: tuple[str, ...]
    plurals: Mapping[str, str] = field(default_factory=dict)
    korean: Mapping[str, str] = field(default_factory=dict)

    @property
    def languages(self) -> tuple[str, ...]:
        return ("en", "ko") if all(name in self.korean for name in self.names) else ("en",)


@dataclass(frozen=True)
class Marked:
    """One marked object of a picture.

    Attributes:
        name: one of the names.
        box: in pixels of the file.
        polygons: each x, y, x, y ... in pixels; empty = the box is all that is known.
        crowd: it stands for several: nothing that depends on it is asked.
    """

    name: str
    box: Box
    polygons: tuple[tuple[float, ...], ...]
    crowd: bool


@dataclass(frozen=True)
class OwnPicture:
    """A picture.

    Attributes:
        file: of the image.
        marked: what is marked on it.
        size: (width, height) in pixels that the boxes are of; None = the JSON does not say.
    """

    file: Path
    marked: tuple[Marked, ...]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class OwnPictures:
    """All pictures of a COCO file.

    Attributes:
        names: of the objects.
        training, held_out: pictures to learn from, and pictures to judge by.
    """

    names: OwnNames
    training: tuple[OwnPicture, ...]
    held_out: tuple[OwnPicture, ...]


def is_held_out(file_name: str) -> bool:
    """Whether a picture is for judging only."""
    digest = hashlib.sha256(file_name.encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == 0


def read_coco(path: Path, images: Path | None = None) -> OwnPictures:
    """Read a COCO file.

    Args:
        path: of the JSON.
        images: folder that the file names are in; None = that of the JSON.

    Raises:
        DatasetError: a file is missing or not of COCO's shape, a name is no label, or nothing is left to learn from.
    """
    folder = path.parent if images is None else images
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; expected a COCO JSON file with images, categories and annotations")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names, name_of = _names(data["categories"], path)
        files = {entry["id"]: str(entry["file_name"]) for entry in data["images"]}
        sizes = {entry["id"]: _size(entry) for entry in data["images"]}
        marked: dict[Any, list[Marked]] = {key: [] for key in files}
        for number, entry in enumerate(data["annotations"]):
            if entry["image_id"] not in files or entry["category_id"] not in name_of:
                raise DatasetError(
                    f"{path}: annotation {number} is about image {entry['image_id']!r} and category "
                    f"{entry['category_id']!r}; expected ids of 'images' and 'categories'"
                )
            marked[entry["image_id"]].append(
                _marked(entry, name_of[entry["category_id"]], f"{path}: annotation {number}")
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path} is not of COCO's shape ({type(error).__name__}: {error}); expected images with id and file_name, "
            "categories with id and name, annotations with image_id, category_id and bbox"
        ) from error
    twice = [name for name, number in Counter(files.values()).items() if number > 1]
    if twice:  # each entry would teach that the objects of the other are not there
        raise DatasetError(
            f"{path} names the picture {twice[0]!r} under several ids; expected one id for each: join them"
        )
    boxes = [thing.box for things in marked.values() for thing in things]
    if boxes and all(max(box) <= 1 for box in boxes):
        raise DatasetError(
            f"{path}: every box lies within 0 to 1, as shares of a picture do; expected pixels: scale them"
        )
    pictures = {name: OwnPicture(folder / name, tuple(marked[key]), sizes[key]) for key, name in files.items()}
    missing = sorted(name for name, picture in pictures.items() if not picture.file.is_file())
    if missing:
        raise DatasetError(
            f"{folder} lacks {len(missing)} of the {len(files)} pictures of {path}, e.g. {missing[0]!r}; name the "
            "folder that the file names are relative to"
        )
    training = tuple(picture for name, picture in pictures.items() if not is_held_out(name))
    if not training:
        raise DatasetError(f"{path} names {len(files)} pictures, none of which is for training; add more")
    return OwnPictures(names, training, tuple(p for name, p in pictures.items() if is_held_out(name)))


def _names(categories: list[dict[str, Any]], path: Path) -> tuple[OwnNames, dict[Any, str]]:
    try:
        names = checked_labels([entry["name"] for entry in categories], "categories", least=1)
        for word in ("plural", "korean"):
            checked_labels([entry[word] for entry in categories if word in entry], f"categories' {word}")
    except TaskError as error:
        raise DatasetError(f"{path}: {error}") from error
    comma = [name for name in names if "," in name]
    if comma:
        raise DatasetError(
            f"{path}: the category {comma[0]!r} holds a comma, which parts names in a question; rename it"
        )
    pairs = list(zip(names, categories, strict=True))
    plurals, korean = ({n: str(c[word]).strip() for n, c in pairs if word in c} for word in ("plural", "korean"))
    return OwnNames(names, plurals, korean), {entry["id"]: name for name, entry in pairs}


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """(width, height) that an image is said to have, where it is said."""
    width, height = entry.get("width"), entry.get("height")
    return (int(width), int(height)) if width and height else None


def _marked(entry: dict[str, Any], name: str, what: str) -> Marked:
    x, y, width, height = (float(value) for value in entry["bbox"])
    if not (all(map(math.isfinite, (x, y, width, height))) and width > 0 and height > 0):
        raise DatasetError(
            f"{what} has the box {entry['bbox']}; expected [x, y, width, height] with an area, in pixels"
        )
    outline = entry.get("segmentation")
    polygons: tuple[tuple[float, ...], ...] = ()
    if isinstance(outline, list):  # run lengths (a dict) mark crowds; their box is enough
        polygons = tuple(tuple(map(float, ring[: len(ring) // 2 * 2])) for ring in outline if len(ring) >= 6)
    return Marked(name, (x, y, x + width, y + height), polygons, bool(entry.get("iscrowd", 0)))
