"""From a camera frame to uint8 patches: resizing by the checkpoint's own rule, cutting, nothing else.

Normalisation does not happen here. Subtracting the mean, dividing by the deviation and doubling the frame in time are
linear, so they are folded into the weights of the patch embedding (`fold_patch_embedding`): the frame stays uint8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exaone_ros.errors import CheckpointError, ImageError
from exaone_ros.model.config import VisionConfig
from exaone_ros.model.config_section import Section, is_number, read_json

OWN_FILE = "preprocessor_config.json"
JOINT_FILE = "processor_config.json"
MAX_SIDE_PX = 16384
MAX_ASPECT_RATIO = 200  # the limit of transformers' smart_resize
# Against Pillow's antialiased bicubic on a noisy scene, mean absolute error in grey levels: shrinking by 1.05
# INTER_CUBIC 0.39 and INTER_AREA 0.66; by 1.1 0.57 and 0.59; by 1.5 1.68 and 0.53; by 1.9 2.27 and 0.49.
AREA_FROM_SHRINK = 1.1
_PILLOW_BICUBIC = 3


@dataclass(frozen=True)
class PreprocessConfig:
    """How the checkpoint wants its images.

    Attributes:
        min_px, max_px: bounds of height * width after resizing, in pixels.
        token_px: sides are multiples of it; one visual token.
        patch, merge: side of a patch in pixels, patches along the side of a visual token.
        mean, std: of each channel R, G, B, after scaling.
        scale: factor that takes a uint8 value to the range of mean and std.
        most_tokens: visual tokens that an image may take at most, whatever the checkpoint allows; None = as it does.
    """

    min_px: int
    max_px: int
    patch: int
    merge: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float
    most_tokens: int | None = None

    @property
    def token_px(self) -> int:
        return self.patch * self.merge

    @property
    def max_visual_tokens(self) -> int:
        """Upper bound for every image that `smart_resize` takes.

        A small image grows to `min_px` with both sides rounded up, which may end above `max_px`.
        """
        thin = math.sqrt(MAX_ASPECT_RATIO)
        grown = self.min_px + self.token_px * math.sqrt(self.min_px) * (thin + 1 / thin) + self.token_px**2
        most = int(max(self.max_px, grown)) // self.token_px**2
        return most if self.most_tokens is None else min(most, self.most_tokens)

    def within(self, visual_tokens: int) -> PreprocessConfig:
        """The same for images of `visual_tokens` at most, where no earlier bound is less; 0 = no bound."""
        bounds = [bound for bound in (self.most_tokens, visual_tokens) if bound]
        return replace(self, most_tokens=min(bounds, default=None))

    @classmethod
    def read(cls, directory: str | Path, vision: VisionConfig) -> PreprocessConfig:
        """Read `preprocessor_config.json` (or `processor_config.json`) and check it against the vision encoder.

        A missing key has the default of `transformers`' Qwen2VLImageProcessor.

        Raises:
            CheckpointError: the file is missing, a value is wrong, or the encoder expects other patches.
        """
        path = preprocess_file(directory)
        raw = read_json(path)
        if path.name == JOINT_FILE:
            raw = Section(raw, str(path)).section("image_processor")
        return cls.parse(raw, vision, str(path))

    @classmethod
    def parse(cls, raw: dict[str, Any], vision: VisionConfig, where: str = "preprocessor_config") -> PreprocessConfig:
        """Read the content of `preprocessor_config.json`; `where` is named in errors.

        Raises:
            CheckpointError: a value is wrong, or the encoder expects other patches.
        """
        size = raw.get("size") or {}
        if not isinstance(size, dict):
            raise CheckpointError(f"{where}: size is {size!r:.80}; expected an object with shortest_edge, longest_edge")
        low = raw.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels") or 56 * 56
        high = raw.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels") or 28 * 28 * 1280
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in (low, high)) or not 0 < low <= high:
            raise CheckpointError(
                f"{where}: size is {low!r} to {high!r}; expected two counts of pixels, the smaller first"
            )
        for key, expected in (
            ("patch_size", vision.patch),
            ("merge_size", vision.merge),
            ("temporal_patch_size", vision.temporal_patch),
        ):
            default = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}[key]
            if raw.get(key, default) != expected:
                raise CheckpointError(f"{where}: {key} is {raw.get(key, default)!r}; the vision encoder has {expected}")
        if high < vision.token_px**2:
            raise CheckpointError(f"{where}: at most {high} px; one visual token alone takes {vision.token_px**2} px")
        if raw.get("do_resize", True) is not True:
            raise CheckpointError(
                f"{where}: do_resize is {raw['do_resize']!r}; frames of any size need it: set it to true"
            )
        if raw.get("resample", _PILLOW_BICUBIC) != _PILLOW_BICUBIC:
            raise CheckpointError(f"{where}: resample is {raw['resample']!r}; expected {_PILLOW_BICUBIC} (bicubic)")
        normalize, rescale = raw.get("do_normalize", True), raw.get("do_rescale", True)
        mean = raw.get("image_mean", (0.48145466, 0.4578275, 0.40821073)) if normalize else (0.0, 0.0, 0.0)
        std = raw.get("image_std", (0.26862954, 0.26130258, 0.27577711)) if normalize else (1.0, 1.0, 1.0)
        scale = raw.get("rescale_factor", 1 / 255) if rescale else 1.0
        numbers = [*mean, *std, scale] if isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple)) else []
        if len(numbers) != 7 or not all(is_number(n) for n in numbers):
            raise CheckpointError(
                f"{where}: image_mean {mean!r:.80}, image_std {std!r:.80} and rescale_factor {scale!r:.80}; expected "
                "three numbers, three numbers and a number"
            )
        if min(std) <= 0 or scale <= 0:
            raise CheckpointError(f"{where}: image_std {std!r} and rescale_factor {scale!r} must be positive")
        return cls(low, high, vision.patch, vision.merge, _triple(mean), _triple(std), float(scale))


def preprocess_file(directory: str | Path) -> Path:
    """The file that `PreprocessConfig.read` reads; newer releases have it inside of another."""
    path, joint = Path(directory) / OWN_FILE, Path(directory) / JOINT_FILE
    return joint if joint.is_file() and not path.is_file() else path


def _triple(values: list[float] | tuple[float, ...]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def check_image(image: NDArray[np.uint8]) -> None:
    """Refuse what is no usable frame.

    Raises:
        ImageError: not a uint8 array [H, W, 3], without pixels, or with a side or aspect ratio beyond all sense.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image is a {type(image).__name__}; expected a uint8 array [H, W, 3]")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"image is {image.dtype} {list(image.shape)}; expected uint8 [H, W, 3] in RGB order")
    height, width = image.shape[:2]
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX):
        raise ImageError(f"image has {width} x {height} px; expected sides of 1 to {MAX_SIDE_PX}")
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise ImageError(f"image has {width} x {height} px; an aspect ratio above {MAX_ASPECT_RATIO} cannot be resized")


def smart_resize(config: PreprocessConfig, height_px: int, width_px: int) -> tuple[int, int]:
    """The size (height, width) in pixels that the checkpoint sees an image of the given size at.

    Both sides are multiples of `token_px`, the area lies within `min_px` and `max_px`, the aspect ratio is kept as far
    as that allows. The rule of `transformers`' smart_resize, Python's rounding of halves to even included. What would
    take more than `most_tokens` is shrunk by the same rule, below `min_px` too.

    Raises:
        ImageError: an image this long and thin cannot keep within `max_px`, or within `most_tokens`.
    """
    unit = config.token_px
    height, width = round(height_px / unit) * unit, round(width_px / unit) * unit
    if height * width > config.max_px:
        height, width = _shrunk(height_px, width_px, config.max_px, unit)
    elif height * width < config.min_px:
        grow = math.sqrt(config.min_px / (height_px * width_px))
        height = math.ceil(height_px * grow / unit) * unit
        width = math.ceil(width_px * grow / unit) * unit
    if config.most_tokens is not None and height * width > config.most_tokens * unit**2:
        height, width = _shrunk(height_px, width_px, config.most_tokens * unit**2, unit)
    return height, width


def _shrunk(height_px: int, width_px: int, most_px: int, unit: int) -> tuple[int, int]:
    shrink = math.sqrt(height_px * width_px / most_px)
    height = max(unit, math.floor(height_px / shrink / unit) * unit)
    width = max(unit, math.floor(width_px / shrink / unit) * unit)
    if height * width > most_px:
        raise ImageError(
            f"image of {width_px} x {height_px} px becomes {width} x {height} px; at most {most_px} px are taken here: "
            "crop the image to a less extreme aspect ratio"
        )
    return height, width


def resize(image: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Resize uint8 [H, W, 3]; the closest that OpenCV comes to Pillow's antialiased bicubic."""
    height, width = image.shape[:2]
    if (height, width) == (height_px, width_px):
        return image
    shrink = min(height / height_px, width / width_px)
    method = cv2.INTER_AREA if shrink >= AREA_FROM_SHRINK else cv2.INTER_CUBIC
    resized: NDArray[np.uint8] = cv2.resize(image, (width_px, height_px), interpolation=method)  # type: ignore[assignment]
    return resized


def patchify(image: NDArray[np.uint8], patch: int, merge: int) -> NDArray[np.uint8]:
    """Cut uint8 [H, W, 3] into patches, uint8 [N, 3 * patch * patch], in merge order.

    Merge order: the patches of one visual token stand together, tokens in raster order. A patch is laid out channel,
    row, column, as the weights of the patch embedding are.
    """
    height, width = image.shape[0] // patch, image.shape[1] // patch
    blocks: NDArray[np.uint8] = image.reshape(height // merge, merge, patch, width // merge, merge, patch, 3)
    patches: NDArray[np.uint8] = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(height * width, 3 * patch * patch)
    return patches


def fold_patch_embedding(
    weight: NDArray[np.float32], config: PreprocessConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of the patch embedding that act on uint8 pixels of one frame.

    Args:
        weight: float32 [hidden, 3, temporal_patch, patch, patch], without bias, for normalised pixels.

    Returns:
        weight float32 [hidden, 3 * patch * patch] and bias float32 [hidden]. All temporal copies of a still image are
        the same frame, so their weights add up.
    """
    summed = weight.astype(np.float64).sum(axis=2)
    std = np.array(config.std)[None, :, None, None]
    mean = np.array(config.mean)[None, :, None, None]
    bias = -(summed * mean / std).sum(axis=(1, 2, 3))
    folded = (summed * config.scale / std).reshape(weight.shape[0], -1)
    return folded.astype(np.float32), bias.astype(np.float32)


def preprocess(image: NDArray[np.uint8], config: PreprocessConfig) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Check, resize and cut one frame.

    Args:
        image: uint8 RGB [H, W, 3].

    Returns:
        Patches uint8 [N, 3 * patch * patch] in merge order, and the grid (height, width) in visual tokens.

    Raises:
        ImageError: wrong shape or type, or a size or aspect ratio that cannot be taken.
    """
    check_image(image)
    height, width = smart_resize(config, image.shape[0], image.shape[1])
    patches = patchify(resize(image, height, width), config.patch, config.merge)
    return patches, (height // config.token_px, width // config.token_px)
