"""What each command does: ``python -m pipelines.run`` runs ``pipelines.tasks.run:run``, and so on."""
