"""One documented conversion from any PIL image to a uint8 array of one size and number of channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Preprocessing:
    """Converts a PIL image of any mode and size to uint8 ``[height, width, channels]``.

    In this order: the EXIF orientation is applied; the first frame is taken; 16-bit and floating point grey is
    scaled to 8 bits; transparency is composited on white where `channels` has no room for it; the mode becomes
    grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4); the largest centred box of the target's aspect
    is resized to the target (bicubic, antialiased), which is resizing the shorter side and cropping the centre.
    """

    height: int
    width: int
    channels: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"data.image_size is [height, width] in pixels, got [{self.height}, {self.width}]")
        if self.channels not in _MODES:
            raise ValueError(f"data.channels is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA), got {self.channels}")

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Converts one image.

        Raises:
            ValueError: If pixel values have no known range (see `_eight_bit_grey`).
        """
        image = _standard_mode(ImageOps.exif_transpose(image))
        if image.mode == "RGBA" and self.channels in (1, 3):
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
        image = image.convert(_MODES[self.channels])
        if image.size != (self.width, self.height):
            size = (self.width, self.height)
            image = image.resize(size, Image.Resampling.BICUBIC, box=self._centre_box(image.size))
        return np.asarray(image, dtype=np.uint8).reshape(self.height, self.width, self.channels)

    def _centre_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        width, height = size
        factor = min(width / self.width, height / self.height)
        box_width, box_height = min(self.width * factor, width), min(self.height * factor, height)
        left, top = (width - box_width) / 2, (height - box_height) / 2
        return (left, top, min(left + box_width, width), min(top + box_height, height))

    def describe(self) -> dict[str, str | int]:
        """Returns the conversion as plain values, for manifests."""
        return {
            "height": self.height,
            "width": self.width,
            "mode": _MODES[self.channels],
            "resize": "bicubic, centre-cropped",
            "background": "kept" if self.channels in (2, 4) else "white",
        }


def _standard_mode(image: Image.Image) -> Image.Image:
    """Converts to mode L, RGB or RGBA without losing range or exposing transparent colour."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit_grey(image)
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


def _eight_bit_grey(image: Image.Image) -> Image.Image:
    """Scales wide grey to 8 bits; PIL's own conversion clips it.

    Integers are 16-bit, 0 to 65,535. Floating point is 0 to 1, or 0 to 255 where a value lies above 1.
    """
    pixels = np.asarray(image).astype(np.float64)
    floating_largest = 1.0 if pixels.max() <= 1 else 255.0
    largest = floating_largest if image.mode == "F" else 65535.0
    # Written so that NaN is refused too.
    if not (pixels.min() >= 0 and pixels.max() <= largest):
        raise ValueError(
            f"its {image.mode} pixels lie in [{pixels.min():g}, {pixels.max():g}], "
            f"expected [0, {largest:g}]: save it with 8 or 16 bits"
        )
    return Image.fromarray(np.rint(pixels * (255 / largest)).astype(np.uint8))
