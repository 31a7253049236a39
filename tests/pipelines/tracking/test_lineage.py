import numpy as np
from pytorch_lightning.loggers import Logger

from pipelines.artifacts.models import fingerprint
from pipelines.artifacts.run_folder import RunFolder
from pipelines.tracking.base import MediaLogger
from pipelines.tracking.lineage import codes_artifact, log_codes, prior_artifact, samples_artifact, tokenizer_artifact
from stage1_vqvae.files import sha256
from stage2_prior.code_store.store import CodeStore


class Metrics(Logger):
    name, version = "notes", ""

    def log_hyperparams(self, *args):
        pass

    def log_metrics(self, metrics, step=None):
        self.metrics = metrics


class Notes(MediaLogger, Metrics):
    """Notes what is logged."""

    def __init__(self):
        super().__init__()
        self.histograms, self.lineage = {}, []

    def send_histogram(self, name, counts, step):
        self.histograms[name] = counts

    def send_lineage(self, made, parents):
        self.lineage.append((made.kind, [parent.kind for parent in parents]))


def test_artifacts_carry_the_fingerprints_of_the_files(tiny_run):
    run = RunFolder(tiny_run)
    assert tokenizer_artifact(run).fingerprint == fingerprint(run.tokenizer)
    assert prior_artifact(run).fingerprint == fingerprint(run.prior)
    assert codes_artifact(run).fingerprint == sha256(run.codes("train") / "manifest.json")
    assert samples_artifact(run).fingerprint == sha256(run.samples / "images.npz")
    made = [make(run) for make in (tokenizer_artifact, codes_artifact, prior_artifact, samples_artifact)]
    assert [artifact.kind for artifact in made] == ["tokenizer", "codes", "prior", "samples"]
    assert all(path.is_file() for artifact in made for path in artifact.files)


def test_loggers_see_how_often_each_code_occurs_and_where_codes_come_from(tiny_run):
    logger, store = Notes(), CodeStore.open(RunFolder(tiny_run).codes("train"))
    log_codes([logger], RunFolder(tiny_run))
    codes = store.__getitems__(list(range(len(store))))["codes"].numpy()
    counts = np.bincount(codes.ravel(), minlength=16)
    assert logger.histograms["codebook"].tolist() == counts.tolist()
    shares = counts[counts > 0] / counts.sum()
    assert logger.metrics["codes"] == codes.size
    np.testing.assert_allclose(logger.metrics["unigram_nats"], -(shares * np.log(shares)).sum(), rtol=1e-5)
    assert logger.lineage == [("codes", ["tokenizer"])]


def test_without_a_media_logger_nothing_is_read(tmp_path):
    log_codes([], RunFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []
