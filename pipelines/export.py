"""``python -m pipelines.export``: encoder, decoder and prior of a run for other runtimes."""

from pipelines.cli.command import command

main = command("export", "pipelines.tasks.export:export_command")

if __name__ == "__main__":
    main()
