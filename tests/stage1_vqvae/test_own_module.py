"""A module from elsewhere: what it gives is checked, and said where it does not fit."""

import pytest
import torch
from torch import nn

from stage1_vqvae import CodeLayout, ModuleTokenizer


class Halves(nn.Module):
    """Two codes of two: whether the halves of an image are bright."""

    def __init__(self, **replaced):
        super().__init__()
        self.layout = CodeLayout(((1, 2),), (2,))
        for name, value in replaced.items():
            setattr(self, name, value)

    def encode(self, images):
        return (images.unflatten(3, (2, 2)).mean((1, 2, 4)) > 0).long()

    def decode(self, codes):
        return (codes * 4.0 - 2).repeat_interleave(2, 1)[:, None, None].expand(-1, 3, 2, 4)


IMAGES = torch.tensor([-0.5, -0.5, 0.25, 0.25]).expand(2, 3, 2, 4)


def test_codes_and_images_are_the_modules():
    tokenizer = ModuleTokenizer((2, 4), 3, Halves()).eval()
    codes = tokenizer.encode(IMAGES)
    assert codes.tolist() == [[0, 1], [0, 1]]
    assert torch.equal(tokenizer.decode(codes)[0, 0, 0], torch.tensor([-1.0, -1, 1, 1]))  # in [-1, 1]
    assert tokenizer.layout_of((2, 4)) == tokenizer.layout
    assert next(tokenizer.parameters()).device.type == "cpu"  # which callers ask of a module without parameters too


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"layout": "1x2"}, "Halves.layout: a CodeLayout expected, got '1x2'"),
        ({"encode": lambda images: images}, r"Halves.encode: codes: integers \[B, 2\].* expected"),
        ({"encode": lambda images: torch.full((2, 2), 2)}, "Halves.encode: codes of grid .* are 0 to 1, got 2 to 2"),
        ({"encode": lambda images: torch.zeros(1, 2).long()}, "codes of 2 images expected, got those of 1"),
        ({"decode": lambda codes: codes}, r"Halves.decode: floats \[2, 3, 2, 4\] expected, got \[2, 2\]"),
    ],
)
def test_what_does_not_fit_is_said(replaced, message):
    def there_and_back():
        tokenizer = ModuleTokenizer((2, 4), 3, Halves(**replaced))
        tokenizer.decode(tokenizer.encode(IMAGES))

    with pytest.raises(ValueError, match=message):
        there_and_back()


def test_what_a_tokenizer_lacks_is_said():
    with pytest.raises(ValueError, match="Linear has no encode and no decode and no layout: a tokenizer needs them"):
        ModuleTokenizer((2, 4), 3, nn.Linear(1, 1))
    tokenizer = ModuleTokenizer((2, 4), 3, Halves())
    with pytest.raises(ValueError, match=r"images of 2×4 pixels alone, got \(4, 4\)"):
        tokenizer.layout_of((4, 4))
    with pytest.raises(ValueError, match="stand for no vectors"):
        tokenizer.codebooks()
    with pytest.raises(ValueError, match=r"images \[B, 3, 2, 4\] expected"):
        tokenizer.encode(IMAGES[:, :1])
