import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.metrics import CodeUse, reconstruction_quality


def test_equals_bincount_over_the_whole_split_whatever_the_batches():
    torch.manual_seed(0)
    codes = torch.randint(0, 5, (13, 6))
    metric = CodeUse(CodeLayout(((2, 3),), (8,)))
    for part in codes.split(4):
        metric.update(part)
    found = metric.compute()
    share = np.bincount(codes.flatten().numpy(), minlength=8) / codes.numel()
    used = share[share > 0]
    assert found["usage"].item() == len(used) / 8
    np.testing.assert_allclose(found["perplexity"].item(), np.exp(-(used * np.log(used)).sum()), rtol=1e-5)


def test_grids_are_counted_apart():
    metric = CodeUse(CodeLayout(((1, 1), (1, 2)), (2, 4)))
    metric.update(torch.tensor([[0, 1, 2], [1, 1, 2]]))
    found = {name: round(value.item(), 4) for name, value in metric.compute().items()}
    assert found == {"usage_0": 1.0, "perplexity_0": 2.0, "usage_1": 0.5, "perplexity_1": 2.0}


def test_ranks_add_their_counts_up_exactly():
    one, other = CodeUse(CodeLayout(((1, 2),), (4,))), CodeUse(CodeLayout(((1, 2),), (4,)))
    one.counts += 2**24  # from where on float32 skips integers
    one.update(torch.tensor([[0, 0]]))
    other.update(torch.tensor([[0, 3]]))
    one.merge_state(other)  # as torchmetrics joins processes
    assert one.counts.tolist() == [[2**24 + 3, 2**24, 2**24, 2**24 + 1]]


def pictures():
    """Smooth pictures ``[B, C, H, W]`` in [-1, 1], and noisy, darker copies."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(3, 3, 5, 4, generator=generator)
    images = torch.nn.functional.interpolate(small, (24, 20), mode="bilinear") * 2 - 1
    return images, (0.8 * images - 0.2 + 0.1 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def similarity(one, other):
    """scikit-image's SSIM of pictures in [-1, 1], computed on [0, 1], with the paper's windows, without the border."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = zip(one.double().numpy(), other.double().numpy(), strict=True)
    return np.mean([structural_similarity((a + 1) / 2, (b + 1) / 2, channel_axis=0, **options) for a, b in pairs])


def test_ssim_is_scikit_images_of_mirrored_pictures_in_0_to_1():
    images, others = pictures()
    quality = reconstruction_quality()
    for part in (slice(0, 1), slice(1, 3)):
        quality.update(others[part], images[part])
    # scikit-image leaves out the 5 pixels that the mirror adds.
    mirrored = [torch.nn.functional.pad(each, (5, 5, 5, 5), mode="reflect") for each in (others, images)]
    assert quality.compute()["ssim"].item() == pytest.approx(similarity(*mirrored), abs=1e-4)
    assert abs(similarity(others, images) - similarity(*mirrored)) < 0.05


def test_quality_is_the_same_under_autocast():
    images, others = pictures()
    plain, autocast = reconstruction_quality(), reconstruction_quality()
    plain.update(others, images)
    with torch.autocast("cpu", torch.bfloat16):
        autocast.update(others, images)
    assert autocast.compute() == plain.compute()


def test_ssim_is_of_light_and_not_of_signed_values():
    light = torch.full((1, 1, 16, 16), 0.5)
    quality = reconstruction_quality()
    quality.update(light + 0.1, light)
    a, b = 0.8, 0.75  # on [0, 1]
    assert quality.compute()["ssim"].item() == pytest.approx((2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4), abs=1e-3)


def test_mse_and_psnr_are_of_the_whole_split():
    images, others = pictures()
    quality = reconstruction_quality()
    for part in (slice(0, 1), slice(1, 3)):
        quality.update(others[part], images[part])
    mse = ((others - images).double().numpy() ** 2).mean()
    assert quality.compute()["mse"].item() == pytest.approx(mse, rel=1e-5)
    assert quality.compute()["psnr"].item() == pytest.approx(10 * np.log10(2**2 / mse), rel=1e-5)
