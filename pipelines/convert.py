"""``python -m pipelines.convert``: a tokenizer of another library, or a module of yours, as a run to go on from."""

from pipelines.cli.command import command

main = command("convert", "pipelines.tasks.convert:convert")

if __name__ == "__main__":
    main()
