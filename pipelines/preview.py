"""``python -m pipelines.preview``: images as a training would see them, before any training."""

from pipelines.cli.command import command

main = command("preview", "pipelines.tasks.preview:preview")

if __name__ == "__main__":
    main()
