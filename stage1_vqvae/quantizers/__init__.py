"""Quantizers: one interface (:class:`~stage1_vqvae.quantizers.base.Quantizer`), one file per family."""
