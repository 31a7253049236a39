"""Metrics of tokenizers, priors and samples."""
