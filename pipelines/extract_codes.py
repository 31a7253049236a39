"""``python -m pipelines.extract_codes``: write the codes of all images with a trained tokenizer."""

from pipelines.cli.command import command

main = command("config", "pipelines.tasks.extract_codes:extract_codes")

if __name__ == "__main__":
    main()
