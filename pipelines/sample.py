"""``python -m pipelines.sample``: draw new images from a trained run."""

from pipelines.cli.command import command

main = command("sample", "pipelines.tasks.sample:sample_command")

if __name__ == "__main__":
    main()
