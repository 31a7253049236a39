"""``python -m pipelines.reconstruct``: images beside what a trained tokenizer makes of them."""

from pipelines.cli.command import command

main = command("reconstruct", "pipelines.tasks.reconstruct:reconstruct")

if __name__ == "__main__":
    main()
