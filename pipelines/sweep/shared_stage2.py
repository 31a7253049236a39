"""Jobs of a sweep share one prior for each configuration of stage two, and its parts that are trained apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.artifacts.levels import join_levels
from pipelines.artifacts.links import link_tree
from pipelines.artifacts.models import codes_fingerprint, write_recipe
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.config.settings import Settings
from pipelines.distributed import collectives
from pipelines.sweep.adoption import adopt, copy_metrics, digest, held
from pipelines.sweep.pruned import noting_pruned
from pipelines.tasks.train_stage2 import prior_sources, stores


@contextmanager
def shared_prior(settings: Settings) -> Iterator[None]:
    """Let a job of a sweep train a prior in the block that no other job has trained, and give it to the others.

    Jobs that differ in what makes no other prior, such as sampling, train one prior: the first job trains it in its own
    folder, others wait and take it over. If the first is killed, the next one trains it.

    Outside of a sweep, for a part of a prior, and for a job that has a prior or has begun one, nothing is shared.
    """
    run = RunFolder(Path(settings["output"]))
    sweep = settings.get("sweep")
    if not sweep or settings["stage2"].get("level") is not None or finished(run.prior):
        yield
        return
    sources = {**prior_sources(settings, codes_fingerprint(run.tokenizer)), "stores": stores(run)}
    sources["hardware"] = settings["hardware"]
    shared = RunFolder(Path(sweep["folder"]) / "shared" / f"prior-{digest(sources)}")
    with held(shared.path.with_suffix(".lock"), f"prior of {shared.path}"):
        if collectives.rank() == 0 and finished(shared.prior) and not _begun(run):
            _take_over(shared, run, settings)
        collectives.barrier()
        with noting_pruned(shared.path, settings):
            yield
        if collectives.rank() == 0 and not finished(shared.prior):
            copy_metrics(run, shared)
        adopt(run, shared, ["prior"])


def _begun(run: RunFolder) -> bool:
    """Whether a training of the prior has left anything to go on with."""
    return any(run.checkpoints("stage2").glob("step-*.ckpt")) or (run.prior / "levels").exists()


def _take_over(shared: RunFolder, run: RunFolder, settings: Settings) -> None:
    """Put a prior that another job trained into a job's folder, with the job's own recipe for sampling."""
    shutil.rmtree(run.prior, ignore_errors=True)  # of a job that was killed here
    link_tree(shared.prior, run.prior)
    copy_metrics(shared, run)  # stage one's are the same
    write_recipe(run.prior, settings["sampling"], settings["trust"])  # in a new file, no link


def exchange_levels(settings: Settings) -> None:
    """Give the part of a prior that this job of a sweep trained to the others, and take over theirs.

    Jobs that differ in ``stage2.level`` alone train parts of one prior; whichever ends last has them all. Outside of a
    sweep nothing is done.
    """
    run = RunFolder(Path(settings["output"]))
    level, sweep = settings["stage2"].get("level"), settings.get("sweep")
    if not sweep or level is None:
        return
    sources = prior_sources(settings, codes_fingerprint(run.tokenizer))
    shared = RunFolder(Path(sweep["folder"]) / "shared" / f"prior-{digest(sources)}")
    adopt(run, shared, [f"prior/levels/{level}"])
    adopt(shared, run, [f"prior/levels/{path.name}" for path in sorted((shared.prior / "levels").iterdir())])
    join_levels(run, settings["trust"])
