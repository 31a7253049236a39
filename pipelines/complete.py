"""``python -m pipelines.complete``: keep a part of each image and draw the rest."""

from pipelines.cli.command import command

main = command("complete", "pipelines.tasks.complete:complete_command")

if __name__ == "__main__":
    main()
