import pytest
import torch
import torch.nn.functional as F

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.likelihoods import DiscretizedLogistic
from stage1_vqvae.quantizers.fsq import FSQ
from stage1_vqvae.quantizers.residual import Residual
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae2 import VQVAE2, upsampling
from tests.stage1_vqvae.quantizers.test_every_family import exported

SMALL = {"width": 8, "residual_width": 4, "residual_layers": 1}


def started(model):
    """The model in eval mode, its codebooks set by k-means on a batch, so that codes differ from place to place."""
    model(pictures(model, 16))
    model.step()
    return model.eval()


def two_levels(image_size=(16, 24), channels=3, **options):
    torch.manual_seed(0)
    quantizers = [EMAVectorQuantizer(4, 6), EMAVectorQuantizer(3, 9)]
    return VQVAE2(image_size, channels, quantizers, **{**SMALL, "downsample_factors": (2, 4), **options})


def three_levels():
    torch.manual_seed(0)
    quantizers = [EMAVectorQuantizer(4, 6), Residual(EMAVectorQuantizer(3, 5), depth=2), FSQ([3, 4])]
    return VQVAE2((16, 24), 1, quantizers, **SMALL, downsample_factors=(2, 2, 2))


MODELS = [two_levels, three_levels, lambda: two_levels((12, 28), padding=2), lambda: two_levels(norm="group")]


def pictures(model, n=3):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, model.channels, *model.image_size, generator=generator) * 2 - 1


def test_the_layout_goes_from_coarse_to_fine_with_each_levels_own_codebook():
    assert two_levels().layout == CodeLayout(((2, 3), (4, 6)), (6, 9))
    grids = ((2, 3), (4, 6), (4, 6), (8, 12))  # the middle level is residual: two grids of one shape
    assert three_levels().layout == CodeLayout(grids, (6, 5, 5, 12))


@pytest.mark.parametrize("make", MODELS)
@torch.no_grad()
def test_forward_is_encode_then_decode_in_eval(make):
    model = started(make())
    images = pictures(model)
    passed = model(images)
    assert passed.codes.shape == (3, model.layout.length)
    model.layout.check(passed.codes)
    assert torch.equal(passed.codes, model.encode(images))
    assert torch.equal(passed.images.clamp(-1, 1), model.decode(passed.codes))
    assert passed.images.shape == images.shape
    apart = torch.cat([model.encode(image[None]) for image in images])
    assert torch.equal(passed.codes, apart)


@torch.no_grad()
def test_codes_and_images_are_those_of_algorithm_1_written_out():
    """arXiv 1906.00446, algorithm 1, from the weights alone: two levels of factor 2, without residual blocks."""
    model = two_levels(downsample_factors=(2, 2), residual_layers=0)
    started(model)
    w = model.state_dict()
    images = pictures(model)

    def conv(x, name, **options):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def up(x, name):
        return F.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1)

    def encoder(x, name):
        x = conv(x, f"{name}.layers.0", stride=2, padding=1).relu()
        return conv(conv(x, f"{name}.layers.2", padding=1).relu(), f"{name}.layers.4")

    def decoder(x, name):
        return up(conv(x, f"{name}.layers.0", padding=1).relu(), f"{name}.layers.2")

    def quantized(z, level):
        codebook = w[f"quantizers.{level}.codebook"]
        flat = z.movedim(1, -1)  # [B, h, w, D]
        codes = (flat[..., None, :] - codebook).square().sum(-1).argmin(-1)
        return codes, codebook[codes].movedim(-1, 1)

    bottom = encoder(images, "encoders.1")
    top = encoder(bottom, "encoders.0")
    top_codes, e_top = quantized(conv(top, "projections.0"), 0)
    seen = torch.cat([bottom, decoder(e_top, "contexts.0")], dim=1)
    bottom_codes, e_bottom = quantized(conv(seen, "projections.1"), 1)
    drawn = decoder(torch.cat([up(e_top, "upsamplings.0.0"), e_bottom], dim=1), "decoder")

    passed = model(images)
    assert min(len(top_codes.unique()), len(bottom_codes.unique())) > 2
    assert torch.equal(passed.codes, torch.cat([top_codes.flatten(1), bottom_codes.flatten(1)], dim=1))
    torch.testing.assert_close(passed.images, drawn, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_finer_codes_follow_from_the_decoded_coarser_ones_and_not_the_other_way_round():
    model = started(two_levels())
    images = pictures(model, 16)
    top, bottom = model.layout.split(model.encode(images))
    model.quantizers[0].codebook.add_(torch.randn_like(model.quantizers[0].codebook))
    changed_top, changed_bottom = model.layout.split(model.encode(images))
    assert not torch.equal(changed_top, top)
    assert not torch.equal(changed_bottom, bottom)
    again, _ = model.layout.split(model.encode(images))
    model.quantizers[1].codebook.add_(torch.randn_like(model.quantizers[1].codebook))
    assert torch.equal(model.layout.split(model.encode(images))[0], again)


@torch.no_grad()
def test_every_code_of_every_level_changes_the_image_around_its_cell():
    model = started(three_levels())
    codes = model.encode(pictures(model, 1))
    drawn = model.decode(codes)
    for position, size in enumerate(model.layout.codebook_size_at().tolist()):
        changed = codes.clone()
        changed[0, position] = (codes[0, position] + 1) % size
        assert not torch.equal(model.decode(changed), drawn), position
    corner = codes.clone()
    corner[0, -1] = (codes[0, -1] + 1) % 12  # of the finest grid, bottom right
    rows = (model.decode(corner) - drawn).abs().sum((0, 1, 3)).nonzero()[:, 0]
    assert rows.max() == 15
    assert rows.min() >= 6


@pytest.mark.parametrize("make", MODELS)
def test_gradient_reaches_every_weight_through_the_codes(make):
    model = make()
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)  # normalized blocks start at zero, where gradients end
    passed = model(pictures(model, 8))
    (passed.images.square().mean() + passed.loss).backward()
    silent = [name for name, p in model.named_parameters() if p.ndim > 1 and not p.grad.abs().sum() > 0]
    assert silent == []


def test_a_step_moves_the_codebooks_of_all_levels_and_a_skipped_one_moves_none():
    model = three_levels()
    model(pictures(model, 4))
    model.step()
    before = [value.clone() for value in model.quantizers.state_dict().values()]
    model(pictures(model, 8))
    model.discard()
    model.step()
    model(pictures(model, 8))
    model.step()
    changed = zip(model.quantizers.state_dict().items(), before, strict=True)
    moved = [not torch.equal(old, new) for (name, new), old in changed if name.endswith("codebook")]
    assert moved == [True] * 3  # FSQ has no codebook
    fresh = three_levels()
    fresh(pictures(fresh, 4))
    fresh.step()
    kept = [value.clone() for value in fresh.quantizers.state_dict().values()]
    fresh(pictures(fresh, 8))
    fresh.discard()
    assert all(map(torch.equal, kept, fresh.quantizers.state_dict().values()))


@torch.no_grad()
def test_evaluation_changes_nothing():
    model = three_levels().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = model.encode(pictures(model))
    assert torch.equal(first, model.encode(pictures(model)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_other_sizes_are_decoded():
    model = two_levels().eval()
    codes = model.encode(pictures(model))
    assert torch.equal(model.decode(codes, (16, 24)), model.decode(codes))
    layout = model.layout_of((24, 32))
    assert layout.grids == ((3, 4), (6, 8))
    assert model.decode(torch.zeros(2, layout.length, dtype=torch.int64), (24, 32)).shape == (2, 3, 24, 32)


@torch.no_grad()
def test_a_likelihood_counts_pixels_given_codes_of_all_levels():
    model = two_levels(likelihood=DiscretizedLogistic(2)).eval()
    images = pictures(model)
    passed = model(images)
    nats = model.nats(images, passed.codes)
    torch.testing.assert_close(nats, model.likelihood.nats(passed.outputs, images))
    assert passed.images.shape == images.shape


@torch.no_grad()
def test_exports():
    model = three_levels().eval()
    images = pictures(model, 2)
    codes = model.encode(images)
    assert torch.equal(exported(model.encode, model, images), codes)
    torch.testing.assert_close(exported(model.decode, model, codes), model.decode(codes))


def test_quantizers_stay_in_float32_in_a_model_of_bfloat16():
    model = two_levels().to(torch.bfloat16)
    passed = model(pictures(model))
    assert passed.images.dtype == torch.bfloat16
    assert all(value.dtype == torch.float32 for name, value in model.quantizers.named_parameters())
    assert model.quantizers[0].codebook.dtype == torch.float32


def test_upsampling_multiplies_the_sides():
    for factor in (1, 2, 8):
        assert upsampling(3, factor)(torch.zeros(1, 3, 2, 5)).shape == (1, 3, 2 * factor, 5 * factor)


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError,
        match=r"one downsample_factor for each .* got 2 quantizers and downsample_factors \[2\]",
    ):
        two_levels(downsample_factors=[2])
    with pytest.raises(ValueError, match="downsample_factor is a power of two of at least 2, got 3"):
        two_levels((24, 24), downsample_factors=(3, 4))
    with pytest.raises(ValueError, match=r"20×24 is not divisible by downsample_factor 8: 16×24 would work"):
        two_levels((20, 24))
    with pytest.raises(ValueError, match="1 to 4 channels, got 5"):
        two_levels(channels=5)
    with pytest.raises(ValueError, match=r"\[B, 3, 16, 24\] expected"):
        two_levels()(torch.zeros(1, 3, 16, 16))


def test_level_dropout_decodes_some_training_samples_from_their_coarsest_levels():
    torch.manual_seed(0)
    quantizers = [EMAVectorQuantizer(dim, 5) for dim in (4, 3, 2)]
    model = VQVAE2((16, 24), 1, quantizers, **SMALL, downsample_factors=(2, 2, 2), level_dropout=0.5)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = pictures(model, 400)
    model(images)
    (given,) = seen
    present = torch.stack([part.ne(0).flatten(1).any(1) for part in given.split([4, 3, 2], dim=1)], dim=1)
    number = present.sum(1)
    assert torch.equal(present, torch.arange(3) < number[:, None])  # the coarsest ones
    shares = torch.bincount(number, minlength=4) / 400
    torch.testing.assert_close(shares, torch.tensor([0, 0.25, 0.25, 0.5]), atol=0.08, rtol=0)
    torch.testing.assert_close(model.eval()(images[:3]).images, model.decode(model.encode(images[:3])))
    assert seen[1][:, -2:].ne(0).flatten(1).any(1).all()  # nothing is dropped in evaluation


def test_level_dropout_is_a_share():
    with pytest.raises(ValueError, match=r"level_dropout is in \[0, 1\], got 1.5"):
        two_levels(level_dropout=1.5)
