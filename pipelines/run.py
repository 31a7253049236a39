"""``python -m pipelines.run``: both stages, from images to new images."""

from pipelines.cli.command import command

main = command("config", "pipelines.tasks.run:run")

if __name__ == "__main__":
    main()
