"""``python -m pipelines.train_stage2``: train a prior on the codes of a run."""

from pipelines.cli.command import command

main = command("config", "pipelines.tasks.train_stage2:train_stage2")

if __name__ == "__main__":
    main()
