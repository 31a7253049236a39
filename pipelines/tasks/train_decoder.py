"""Train the decoder of a finished run further, into a run of its own whose codes and prior are those of the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything
from rich.markup import escape

from pipelines.artifacts.links import link_tree
from pipelines.artifacts.models import CODES_OF, Saved, load_prior, load_tokenizer
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.cli.console import console
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.instantiate import with_defaults
from pipelines.config.migrations import modernised
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.tasks.extract_codes import SPLITS
from pipelines.tasks.taken_tokenizer import taken_data
from pipelines.tasks.tokenizer_stage import Subject, TokenizerStage
from pipelines.tasks.train_stage1 import tokenizer_claim
from pipelines.tracking.lineage import tokenizer_artifact
from pipelines.training.images import RunImages, check_same_images, run_data
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import read_yaml
from stage1_vqvae.frozen_codes import FrozenCodes
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.code_store.manifest import MANIFEST
from stage2_prior.code_store.store import CodeStore

NAMES = {"stage1.training.discriminator": "stage1.discriminator", "decoder_of": "model"}
"""Keys that others are taken from."""


def train_decoder(settings: Settings) -> None:
    """Train the decoder of ``settings["model"]`` into ``settings["output"]``; go on where it was after a kill.

    The new run has the old one's codes and prior, by links. The old run is read alone.

    Raises:
        ValueError: If a setting is wrong, the tokenizer has no decoder that could be trained, the images are others, or
            other settings made what is there.
    """
    source, run = RunFolder(Path(settings["model"])), RunFolder(Path(settings["output"]))
    if run.path.resolve() == source.path.resolve():
        raise ValueError(f"output={run.path} is the run itself: a decoder is trained into a run of its own")
    tokenizer, saved = load_tokenizer(source.tokenizer, settings["trust"])
    settings = with_run(settings, source, tokenizer, saved)
    shared = codes_and_prior(source, saved, settings)
    images = RunImages(settings)
    model = FrozenCodes(tokenizer, settings["noise"], settings["neighbours"])
    stage = TokenizerStage(settings, images, partial(decoder_claim, run, settings))
    if not stage.is_done():
        check_same_images(source, images.opened, "give those; data.files=... says where they are")
        seed_everything(settings["seed"], verbose=False)  # before a discriminator's random start
        config = {"model": saved.config["model"], CODES_OF: saved.codes_fingerprint}
        made_of = [tokenizer_artifact(source)]
        judge = earlier_discriminator(source, settings)
        metrics = stage.train(Subject("decoder", model, tokenizer, config, made_of, judge))
        held_out = len(images.opened.validation)
        console.print(f"[green]✓[/] decoder: {metrics['psnr']:.2f} dB PSNR on {held_out} held-out images")
    share(source, run, shared)


def with_run(settings: Settings, source: RunFolder, tokenizer: Tokenizer, saved: Saved) -> Settings:
    """Settings of the command with what the run says: its images, and its objective unless another one is given.

    ``decoder_of`` is added, the fingerprint of the run's tokenizer, and ``discriminator_of``, that of the discriminator
    which the training starts with, if any.

    Raises:
        ValueError: If the run's images are not where they were, or it does not say by which objective it was trained.
    """
    stage = dict(settings["stage1"])
    stage["objective"] = stage.get("objective") or objective_of(source)
    training = stage.get("training")
    if training and "channels" in training.get("discriminator", {}):
        judge = {**training["discriminator"], "channels": tokenizer.channels}
        stage["training"] = {**training, "discriminator": judge}
    data = run_data(source, settings["data"])
    if "_target_" in settings["data"]:  # not the run's own keys, in which it says how it takes images
        data |= taken_data(tokenizer, saved.config)
    settings = {**settings, "data": data, "stage1": stage}
    earlier = earlier_discriminator(source, settings)
    return {**settings, "decoder_of": saved.fingerprint, "discriminator_of": earlier and earlier.fingerprint}


def earlier_discriminator(source: RunFolder, settings: Settings) -> Saved | None:
    """What the run's tokenizer was trained against, if this training has a discriminator that is made alike."""
    asked = (settings["stage1"].get("training") or {}).get("discriminator")
    if asked is None or not finished(source.discriminator):
        return None
    saved = Saved.open(source.discriminator, "discriminator")
    alike: bool = saved.config["model"] == with_defaults(asked, settings["trust"])
    return saved if alike else None


def objective_of(source: RunFolder) -> Mapping[str, Any]:
    """The objective that a run's tokenizer was trained by.

    Raises:
        ValueError: If the run does not say, as it was not trained here.
    """
    path = source.tokenizer / SETTINGS
    known = modernised(read_yaml(path)) if path.exists() else {}
    objective: Mapping[str, Any] | None = known.get("stage1", {}).get("objective")
    if objective is None:
        raise ValueError(
            f"{source.path} does not say by which objective it was trained: give one, stage1/objective=perceptual, say"
        )
    return objective


def decoder_claim(run: RunFolder, settings: Settings, images: ImageData | None = None) -> Claim:
    """What makes a run's tokenizer of another one's; the images' content is compared where they are given.

    What the run has beside it belongs to the codes, which stay.
    """
    claim = tokenizer_claim(run, settings, images)
    made = {name: settings[name] for name in ("decoder_of", "discriminator_of", "noise", "neighbours")}
    return replace(claim, settings={**made, **claim.settings}, dependents=(), names=NAMES, other_images=None)


def codes_and_prior(source: RunFolder, saved: Saved, settings: Settings) -> list[str]:
    """Folders of a run that hold its codes and its prior, those that are finished.

    Raises:
        ValueError: If they are damaged, or of another tokenizer's codes.
    """
    found = []
    if all((source.codes(split) / MANIFEST).exists() for split in SPLITS):
        for split in SPLITS:
            CodeStore.open(source.codes(split), saved.codes_fingerprint)
        found.append("codes")
    if finished(source.prior):
        load_prior(source.prior, saved.codes_fingerprint, settings["trust"])
        found.append("prior")
    return found


def share(source: RunFolder, run: RunFolder, names: list[str]) -> None:
    """Give a run folders of another one that it does not have, by links, and say which."""
    missing = [name for name in names if not (run.path / name).exists()]
    if "prior" in missing and run.checkpoints("stage2").exists():  # it trains one of its own
        missing.remove("prior")
    collectives.barrier()
    if collectives.rank() == 0:
        for name in missing:
            link_tree(source.path / name, run.path / name)
    collectives.barrier()
    if missing:
        console.print(f"[green]✓[/] {' and '.join(missing)}: those of {escape(str(source.path))}")
