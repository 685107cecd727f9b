"""At which sizes the model will be shown one's own pictures, so that it is trained at them."""

from __future__ import annotations

from exaone_ros.model.preprocess import PreprocessConfig, smart_resize
from exaone_ros.training.model import MERGE, PATCH, TOKEN_PX
from exaone_ros.training.own_frames import read_frame
from exaone_ros.training.own_pictures import OwnPictures
from exaone_ros.training.packing import MOST_CELLS
from exaone_ros.training.tokenizer import IMAGE_MEAN, IMAGE_STD, LONGEST_EDGE, SHORTEST_EDGE

LOOKED_AT = 200
"""Pictures whose sizes are looked at before a run."""


def own_sizes(cycle: tuple[tuple[int, int], ...], own: OwnPictures) -> tuple[tuple[int, int], ...]:
    """The sizes (height, width) of batches with those at which the model will be shown the pictures among them.

    A picture stands on edge, say: then a quarter as many batches of its size come behind the others. Sizes of more than
    MOST_CELLS visual tokens a side are left out; such pictures are learned from in parts.

    Raises:
        DatasetError: a file is not an image.
    """
    rule = PreprocessConfig(SHORTEST_EDGE, LONGEST_EDGE, PATCH, MERGE, IMAGE_MEAN, IMAGE_STD, 1 / 255)
    found: list[tuple[int, int]] = []
    for picture in own.training[:LOOKED_AT]:
        size = smart_resize(rule, *read_frame(picture).image.shape[:2])
        if size not in cycle and size not in found and max(size) <= MOST_CELLS * TOKEN_PX:
            found.append(size)
    return cycle + tuple(found) * max(1, len(cycle) // 4)
