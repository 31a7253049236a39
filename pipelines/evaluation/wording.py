"""What an evaluation's metrics mean, for the terminal and the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Sections = Mapping[str, Mapping[str, float]]

TITLES = {
    "reconstruction": "Reconstructions",
    "codes": "Codes",
    "latents": "Are the latents used?",
    "likelihood": "Likelihood",
    "samples": "Samples",
    "training_images": "Training images, for comparison",
    "copies": "Copies of training images?",
}

MEANINGS = {
    "mse": "mean squared error of pixels in [-1, 1]",
    "psnr": "dB, higher is better",
    "ssim": "structural similarity, 1 is perfect",
    "rfid": "FID of reconstructions against the images themselves",
    "fid": "FID against the held-out images; lower is better",
    "frechet_distance_own_features": "not FID: by the run's own small network; compare only within a data set",
    "precision_own_features": "share that looks like held-out images",
    "recall_own_features": "share of the held-out images' variety that is met",
    "precision_inception": "share that looks like held-out images",
    "recall_inception": "share of the held-out images' variety that is met",
    "lite0_frechet": "Fréchet distance in EfficientNet-Lite0's features, with a 90% interval; lower is better",
    "lite0_kid": "kernel distance in the same features; 0 for sets of one kind",
    "near_in_features": "distance of the nearest training image, both as decoded, median; 0 for a copy",
    "near_in_features_held_out": "the same of held-out images",
    "copies_in_features": "share nearer than 99% of the held-out images; 0.01 by chance",
    "near_in_codes": "share of codes that differ from the nearest training image's, median",
    "near_in_codes_held_out": "the same of held-out images",
    "copies_in_codes": "share nearer in codes than 99% of the held-out images",
    "usage": "share of the codebook that occurs",
    "perplexity": "size of an evenly used codebook of as much information",
    "mse_right_codes": "decoded from an image's own codes",
    "mse_shuffled_codes": "from another image's codes",
    "mse_common_codes": "from each position's most common code",
    "nats_right_codes": "of an image's pixels, given its own codes",
    "nats_shuffled_codes": "given another image's codes",
    "nats_common_codes": "given each position's most common code",
    "uniform_bits_per_image": "codes as they stand: log2 K each",
    "prior_bits_per_image": "codes under the prior, given the class",
    "nats_per_code": "under the prior, given the class; lower is better",
    "bits_per_code": "under the prior, given the class",
    "bits_per_dim_of_pixels": "pixels given their codes, without the codes",
    "bits_per_dim_with_prior": "pixels and codes, codes under the prior and the class drawn evenly",
    "bits_per_dim_with_uniform": "pixels and codes, all codes equally likely",
    "class_agreement": "share that the run's own classifier takes for the class asked for",
    "classifier_accuracy": "of that classifier on held-out images",
}

USED, UNUSED = 0.5, 0.9
"""Error with right codes over error with others', below which the codes carry the image and above which they do not."""


COPIED = 0.05
"""Share of copies, in features and in codes, from which a prior is said to know training images by heart."""


def meaning(name: str) -> str:
    """A metric's meaning; empty where its name says enough."""
    return MEANINGS.get(re.sub(r"_\d+$", "", name), "")


@dataclass(frozen=True)
class Row:
    """A metric as it is shown.

    Attributes:
        name: Of the metric.
        value: Of the metric.
        shown: The value as text; behind it the interval that it lies in, if that is known.
        meaning: What it means; empty where its name says enough.
    """

    name: str
    value: float
    shown: str
    meaning: str


def rows(metrics: Mapping[str, float]) -> list[Row]:
    """The metrics of a section as they are shown; the ends of an interval stand behind its value."""
    intervals = {
        name: f" ({metrics[f'{name}_low']:.4g} to {metrics[f'{name}_high']:.4g})"
        for name in metrics
        if f"{name}_low" in metrics
    }
    ends = {f"{name}_{end}" for name in intervals for end in ("low", "high")}
    return [
        Row(name, value, f"{value:.5g}{intervals.get(name, '')}", meaning(name))
        for name, value in metrics.items()
        if name not in ends
    ]


def reading(sections: Sections) -> str:
    """A sentence that says whether the latents carry the images."""
    latents, codes, likelihood = (sections.get(name, {}) for name in ("latents", "codes", "likelihood"))
    right, wrong = latents["mse_right_codes"], latents["mse_shuffled_codes"]
    share = right / max(wrong, 1e-12)
    verdict = "carry the images" if share < USED else "hardly matter" if share > UNUSED else "carry part of the images"
    usage = " and ".join(f"{value:.0%}" for name, value in codes.items() if name.startswith("usage"))
    words = (
        f"The codes {verdict}: the error is {right:.3g} with an image's own codes, {wrong:.3g} with another's, "
        f"{latents['mse_common_codes']:.3g} with the most common; {usage} of the codes are in use"
    )
    if "prior_bits_per_image" in likelihood:
        spent, most = likelihood["prior_bits_per_image"], likelihood["uniform_bits_per_image"]
        words += f"; the prior spends {spent:.1f} bits on an image's codes, of {most:.1f}"
    return words + "."


def remarks(sections: Sections) -> list[str]:
    """Remarks on the metrics: why some are missing, and what may not be compared."""
    likelihood = sections.get("likelihood", {})
    found = []
    if "bits_per_dim_of_pixels" not in likelihood:
        found.append(
            "No bits per dimension: this tokenizer has no likelihood "
            "(train one with stage1/likelihood=discretized_logistic)."
        )
    if "nats_per_code" not in likelihood:
        found.append("No bits under a prior and no samples: the run has no trained prior.")
    if "lite0_frechet" not in sections.get("reconstruction", {}):
        found.append(
            "No distances in features that are the same for every run: they take ten held-out images at least, and "
            "pip install 'vqvae-prior[lite0]', which the search for copies takes too."
        )
    copies = sections.get("copies", {})
    copied = min(copies.get("copies_in_features", 0.0), copies.get("copies_in_codes", 0.0))
    if copied > COPIED:
        found.append(
            f"At least {copied:.0%} of the samples are nearer to a training image than 99% of the held-out images are: "
            "the prior may know training images by heart. The nearest pairs are in copies.png; fewer steps, a smaller "
            "prior, more dropout or more augmented copies (codes.copies) help."
        )
    if any("frechet_distance_own_features" in section for section in sections.values()):
        found.append(
            "Distances in own features are not FID: their network is a small one trained on the run's training images. "
            "They compare sets of as many images with each other, never with published values."
        )
    return found
