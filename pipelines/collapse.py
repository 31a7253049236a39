"""``python -m pipelines.collapse``: posterior collapse and its absence, with one and the same decoder."""

from pipelines.cli.command import command

main = command("collapse", "pipelines.tasks.collapse:collapse")

if __name__ == "__main__":
    main()
