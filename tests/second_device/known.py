"""Cases that are known to fail, and why. An entry whose case passes fails the run: remove it."""

_STARTED = "the step asks the device whether the codebook has started, for its dead codes and for their number"
_NOISE = "labels and held codes are asked of the device, once a call, and noise is copied to it"

KNOWN: dict[str, str] = {
    **{
        f"stage1: training_steps[{family}]": _STARTED
        for family in (
            *("gradient", "ema", "ema cosine rotation", "simvq", "simvq rotation"),
            *("residual ema", "residual simvq", "product gradient", "product of residuals"),
        )
    },
    "stage1: training_steps[gumbel]": "the temperature is read from the device",
    "stage1: quality": "torchmetrics makes a tensor of the number of pixels, once a batch",
    "stage1: use_of_codes[one]": "bincount waits for the device",
    "stage1: use_of_codes[two]": "bincount waits for the device",
    "stage2: completion[3]": "candidates are resampled where an image needs it, which is asked at every held code",
    **{f"stage2: passes_of_a_fixed_size[{prior}]": _NOISE for prior in ("transformer", "pixelcnn")},
    **{f"training: training[tokenizer with a codebook-{clip}]": _STARTED for clip in (None, 1.0)},
    **{
        f"training: batches_of_a_validation[{stage}]": "as the cases quality and use_of_codes of stage1"
        for stage in ("tokenizer", "tokenizer with a codebook")
    },
}
