import pytest
import torch

from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.transformer.model import Transformer
from tests.support.small_priors import build


@pytest.fixture(params=[Transformer, PixelCNN])
def prior(request):
    return build(request.param)


@pytest.fixture
def two_threads():
    """Two threads for the test; it may set others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)
