"""What tests of vector quantizers share."""

import pytest

from stage1_vqvae.quantizers.vector import EMAVectorQuantizer, VectorQuantizer

both = pytest.mark.parametrize("family", [VectorQuantizer, EMAVectorQuantizer])
"""A test of each family."""


def started(family, codebook, **options):
    """A quantizer whose codebook is given."""
    return family(dim=codebook.shape[1], codebook_size=len(codebook), init=codebook, **options)
