"""``python -m pipelines.publish``: write a finished run as a folder to publish, and send it where asked."""

from pipelines.cli.command import command

main = command("publish", "pipelines.tasks.publish:publish")

if __name__ == "__main__":
    main()
