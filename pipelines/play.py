"""``python -m pipelines.play``: a page in the browser to try a finished run in."""

from pipelines.cli.command import command

main = command("play", "pipelines.tasks.play:play")

if __name__ == "__main__":
    main()
