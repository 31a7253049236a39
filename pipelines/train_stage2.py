"""``python -m pipelines.train_stage2``: train a prior on the codes of a run."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning import seed_everything

from pipelines import processes
from pipelines.artifacts import load_tokenizer, save_model
from pipelines.batches import StageData
from pipelines.building import build
from pipelines.callbacks import callback_settings, callbacks
from pipelines.command import Settings, command, console
from pipelines.fit import fit
from pipelines.lineage import codes_artifact, prior_artifact
from pipelines.pictures import SamplePictures
from pipelines.run_folder import RunFolder, finished
from pipelines.settings import claim
from pipelines.sharding import ShardedPriorTraining, refuse_unsharded
from pipelines.tracking import Job, boards
from stage2_prior.code_store import CodeStore
from stage2_prior.files import write_json
from stage2_prior.sampling import SamplingSettings
from stage2_prior.training import PriorTraining


def train_stage2(settings: Settings) -> None:
    """Train the prior of ``settings["output"]``, unless that is done; go on where it was after a kill."""
    run = RunFolder(Path(settings["output"]))
    stage = settings["stage2"]
    optimization = build(stage["optimization"], "stage2.optimization", settings["trust"])
    trainer = build({"_target_": "pipelines.fit.StageTrainer", **stage["trainer"]}, "stage2.trainer")
    hardware = build(settings["trainer"], "trainer")
    if hardware.sharded:
        refuse_unsharded(trainer)
    own = callbacks(settings, "stage2")
    tracker = build(settings["logger"], "logger", settings["trust"])
    sampling = SamplingSettings(**settings["sampling"])
    tokenizer, saved = load_tokenizer(run.tokenizer, settings["trust"])
    sources = {"tokenizer": saved.fingerprint, "codes": settings["codes"], "stage2": stage, "seed": settings["seed"]}
    sources |= callback_settings(settings, "stage2")
    claim(run.prior / "settings.yaml", sources, "prior")
    if finished(run.prior):
        console.print(f"[green]✓[/] prior: already trained ({run.prior})")
        return

    seed_everything(settings["seed"], verbose=False)
    train = CodeStore.open(run.codes("train"), saved.fingerprint)
    validation = CodeStore.open(run.codes("validation"), saved.fingerprint)
    if processes.rank() == 0:
        train.verify()
        validation.verify()
    classes = len(train.class_names)
    prior = build(stage["model"], "stage2.model", settings["trust"], layout=train.layout, num_classes=classes)
    training = ShardedPriorTraining if hardware.sharded else PriorTraining
    module = training(prior, stage["label_dropout"], train.unigram_entropy(), optimization)
    data = StageData(train, validation, stage["batch_size"], settings["seed"], workers=0)
    # One rank draws samples, which no rank alone could do of a prior that is spread over them.
    pictures = [] if hardware.sharded else [SamplePictures(tokenizer, sampling, run.pictures("stage2"))]
    with tracker.track(Job.of(run.path, "stage2", settings)) as loggers:
        figures = fit(
            "stage 2: prior",
            module,
            data,
            run.checkpoints("stage2"),
            trainer,
            hardware,
            loggers,
            [*pictures, *own],
            best=("validation/nats", "min"),
        )
        if isinstance(module, ShardedPriorTraining):
            module.gather(prior)
        if processes.rank() == 0:
            write_json(run.prior / "metrics.json", figures)
            config = {
                "model": stage["model"],
                "layout": train.layout.to_dict(),
                "num_classes": classes,
                "class_names": list(train.class_names),
                "tokenizer": saved.fingerprint,
                "sampling": settings["sampling"],
            }
            save_model(run.prior, "prior", prior, config)
            for board in boards(loggers):
                board.log_lineage(prior_artifact(run), [codes_artifact(run)])
    processes.barrier()
    console.print(
        f"[green]✓[/] prior: {figures['nats']:.3f} nats per code held out "
        f"(knowing nothing {figures['uniform_nats']:.3f}, frequencies {figures['unigram_nats']:.3f})"
    )


main = command("config")(train_stage2)

if __name__ == "__main__":
    main()
