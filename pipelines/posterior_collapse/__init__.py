"""The models of the posterior collapse experiment."""
