"""``python -m pipelines.train_stage1``: train a tokenizer on images."""

from pipelines.cli.command import command

main = command("config", "pipelines.tasks.train_stage1:train_stage1")

if __name__ == "__main__":
    main()
