"""One documented conversion from any image to a uint8 array of one size and number of channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""PIL's names by number of channels."""

COLOURS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGBA"}
"""A person's."""


@dataclass(frozen=True)
class Preprocessing:
    """Converts an image of any mode and size to uint8 ``[height, width, channels]``.

    In this order: the EXIF orientation is applied; values of more than 8 bits are scaled to 8 bits; transparency is
    composited on white where `channels` has no room for it; the mode becomes grey (1 channel), grey and alpha (2), RGB
    (3) or RGBA (4); the largest centred box of the target's aspect is resized to the target (bicubic, antialiased),
    which is resizing the shorter side and cropping the centre.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        channels: Of the result, 1 to 4.
        value_range: The values of images of more than 8 bits that become 0 and 255; what lies outside is clipped.
            None takes each image by the convention of its type, see `container_range`.
        draft: Whether JPEG files are decoded at a half, a quarter or an eighth of their size, as small as leaves twice
            the target to be resized: several times as fast, and pixels differ by a level here and there.

    Raises:
        ValueError: If an argument is out of range.
    """

    height: int
    width: int
    channels: int
    value_range: tuple[float, float] | None = None
    draft: bool = True

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"data.image_size is [height, width] in pixels, got [{self.height}, {self.width}]")
        if self.channels not in MODES:
            raise ValueError(f"data.channels is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA), got {self.channels}")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"data.range is [darkest, brightest] value, got {list(self.value_range)}")

    def __call__(self, image: Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
        """Converts one image.

        Args:
            image: A PIL image, or pixels ``[H, W]`` or ``[H, W, C]`` with 1 to 4 channels.

        Raises:
            ValueError: If a value is no number, or lies outside of what its type is known to hold.
        """
        image = self._standard_mode(image)
        if image.mode == "RGBA" and self.channels in (1, 3):
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
        image = image.convert(MODES[self.channels])
        if image.size != (self.width, self.height):
            size = (self.width, self.height)
            image = image.resize(size, Image.Resampling.BICUBIC, box=self._centre_box(image.size))
        return np.asarray(image, dtype=np.uint8).reshape(self.height, self.width, self.channels)

    def _standard_mode(self, image: Image.Image | NDArray[Any]) -> Image.Image:
        """Converts to mode L, LA, RGB or RGBA without losing range or exposing transparent colour."""
        if isinstance(image, np.ndarray):
            return _standard_mode(_from_pixels(self.eight_bits(image)))
        image = ImageOps.exif_transpose(image)
        if is_wide(image):
            return Image.fromarray(self.eight_bits(np.asarray(image)))
        return _standard_mode(image)

    def eight_bits(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Scales values of any shape to 0 to 255.

        Raises:
            ValueError: If a value is no number, or lies outside of what its type is known to hold.
        """
        if values.dtype == np.uint8:
            return values
        wide = values.astype(np.float64)
        if not np.isfinite(wide).all():
            raise ValueError("it holds values that are no numbers")
        lowest, highest = self.value_range or container_range(values)
        if self.value_range is None and not (wide.min() >= lowest and wide.max() <= highest):
            raise ValueError(
                f"its {values.dtype} values lie in [{wide.min():g}, {wide.max():g}], "
                f"expected [{lowest:g}, {highest:g}]: set data.range"
            )
        scaled = (np.clip(wide, lowest, highest) - lowest) * (255 / (highest - lowest))
        return np.rint(scaled).astype(np.uint8)

    def _centre_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        width, height = size
        factor = min(width / self.width, height / self.height)
        box_width, box_height = min(self.width * factor, width), min(self.height * factor, height)
        left, top = (width - box_width) / 2, (height - box_height) / 2
        return (left, top, min(left + box_width, width), min(top + box_height, height))

    def describe(self) -> dict[str, Any]:
        """Returns the conversion as plain values, for manifests."""
        described: dict[str, Any] = {
            "height": self.height,
            "width": self.width,
            "mode": MODES[self.channels],
            "resize": "bicubic, centre-cropped",
            "background": "kept" if self.channels in (2, 4) else "white",
        }
        if self.draft:
            described["jpeg"] = "reduced in decoding"
        return described if self.value_range is None else {**described, "range": list(self.value_range)}


def is_wide(image: Image.Image) -> bool:
    """Whether a PIL image holds grey values of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def container_range(values: NDArray[Any]) -> tuple[float, float]:
    """The range of an image of which no other is known.

    Integers are 16-bit, 0 to 65,535. Floating point is 0 to 1, or 0 to 255 where a value lies above 1.
    """
    if np.issubdtype(values.dtype, np.floating):
        return (0.0, 1.0) if values.max() <= 1 else (0.0, 255.0)
    return (0.0, 1.0) if values.dtype == bool else (0.0, 65535.0)


def _from_pixels(pixels: NDArray[np.uint8]) -> Image.Image:
    """A PIL image of uint8 pixels ``[H, W]`` or ``[H, W, C]``."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[2] == 2:
        return Image.merge("LA", [Image.fromarray(np.ascontiguousarray(pixels[..., axis])) for axis in (0, 1)])
    return Image.fromarray(np.ascontiguousarray(pixels))


def _standard_mode(image: Image.Image) -> Image.Image:
    """Converts a PIL image of at most 8 bits to mode L, RGB or RGBA."""
    if image.mode == "La":  # premultiplied grey has a way to RGBA only through LA
        image = image.convert("LA")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
        assert converted is not None  # only in-place transforms return nothing
        return converted
    return image if image.mode in ("L", "RGB") else image.convert("RGB")
