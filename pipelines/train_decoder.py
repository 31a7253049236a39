"""``python -m pipelines.train_decoder``: train a run's decoder further; its codes and its prior stay valid."""

from pipelines.cli.command import command

main = command("train_decoder", "pipelines.tasks.train_decoder:train_decoder")

if __name__ == "__main__":
    main()
