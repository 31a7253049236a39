"""Cases that are known to fail, and why. An entry whose case passes fails the run: remove it."""

_NOISE = "labels and held codes are asked of the device, once a call, and noise is copied to it"

KNOWN: dict[str, str] = {
    "stage2: completion[3]": "candidates are resampled where an image needs it, which is asked at every held code",
    **{f"stage2: passes_of_a_fixed_size[{prior}]": _NOISE for prior in ("transformer", "pixelcnn")},
}
