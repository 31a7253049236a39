"""``python -m pipelines.evaluate``: measure a run on held-out images, and samples that are drawn for it."""

from pipelines.cli.command import command

main = command("evaluate", "pipelines.tasks.evaluate:evaluate")

if __name__ == "__main__":
    main()
