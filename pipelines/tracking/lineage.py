"""A run's artifacts for trackers: tokenizer → codes → prior → samples, each with the fingerprint its files carry."""

from __future__ import annotations

from collections.abc import Sequence

from pytorch_lightning.loggers import Logger

from pipelines.artifacts.models import fingerprint
from pipelines.artifacts.run_folder import RunFolder
from pipelines.tracking.base import media_loggers
from pipelines.tracking.job import Artifact
from stage1_vqvae.files import sha256
from stage2_prior.code_store.manifest import MANIFEST
from stage2_prior.code_store.store import CodeStore


def tokenizer_artifact(run: RunFolder) -> Artifact:
    """The finished tokenizer of a run."""
    files = (run.tokenizer / "config.yaml", run.tokenizer / "model.safetensors")
    return Artifact("tokenizer", fingerprint(run.tokenizer), files)


def codes_artifact(run: RunFolder) -> Artifact:
    """The finished codes of a run: their manifest, which holds the digest of every shard."""
    manifest = run.codes("train") / MANIFEST
    return Artifact("codes", sha256(manifest), (manifest,))


def prior_artifact(run: RunFolder) -> Artifact:
    """The finished prior of a run."""
    files = (run.prior / "config.yaml", run.prior / "model.safetensors")
    return Artifact("prior", fingerprint(run.prior), files)


def samples_artifact(run: RunFolder) -> Artifact:
    """The finished samples of a run."""
    return Artifact("samples", sha256(run.samples / "images.npz"), (run.samples / "grid.png",))


def log_codes(loggers: Sequence[Logger], run: RunFolder) -> None:
    """Log how often each code occurs in the training images, and the codes' lineage."""
    found = media_loggers(loggers)
    if not found:
        return
    store = CodeStore.open(run.codes("train"))
    for logger in found:
        logger.log_metrics({"codes": len(store) * store.layout.length, "unigram_nats": store.unigram_entropy()}, 0)
        for grid, counts in enumerate(store.histogram()):
            logger.log_histogram("codebook" if len(store.layout.grids) == 1 else f"codebook_{grid}", counts, 0)
        logger.log_lineage(codes_artifact(run), [tokenizer_artifact(run)])
