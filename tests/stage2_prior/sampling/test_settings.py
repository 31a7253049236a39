import math

import pytest

from stage2_prior.sampling.settings import SamplingSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"temperature": 1e-39},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"guidance": -1},
        {"guidance": float("inf")},
        {"guidance_schedule": "cosine"},
        {"guidance_power": 0.0},
        {"guidance_power": float("inf")},
        {"guidance_interval": (0.5, 0.5)},
        {"guidance_interval": (-0.1, 1.0)},
        {"guidance_interval": (0.5, 1.1)},
        {"processors": ["top_k"]},
        {"microbatch_size": 0},
        {"precision": "float16"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingSettings(**wrong)


def test_the_ends_of_ranges_belong_to_them():
    SamplingSettings(temperature=0, top_k=1, top_p=1, min_p=0, guidance=0, guidance_interval=(0, 1), microbatch_size=1)
    SamplingSettings(temperature=1e-30, min_p=1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SamplingSettings(guidance=3.0), [3, 3, 3, 3, 3]),
        (SamplingSettings(guidance=3.0, guidance_schedule="linear"), [1, 1.5, 2, 2.5, 3]),
        (SamplingSettings(guidance=0.0, guidance_interval=(0.2, 0.6)), [1, 0, 0, 1, 1]),
        (
            SamplingSettings(guidance=3.0, guidance_schedule="power_cosine", guidance_power=2.0),
            [2 - math.cos(math.pi * (t / 5) ** 2) for t in range(5)],  # RAR's sampler, arXiv 2411.00776
        ),
    ],
)
def test_guidance_scales(settings, expected):
    assert settings.guidance_scales(5) == pytest.approx(expected)


def test_a_single_position_has_the_whole_scale():
    assert SamplingSettings(guidance=3.0, guidance_schedule="linear").guidance_scales(1) == [3.0]


class Rule:
    def __init__(self, mass):
        self.mass = mass

    def __call__(self, logits, codes):
        return logits


def test_settings_are_written_down_as_plain_data():
    plain = SamplingSettings(guidance_interval=(0.1, 0.5), processors=[Rule(0.9), test_guidance_scales]).plain()
    assert plain["guidance_interval"] == [0.1, 0.5]
    here = __name__
    assert plain["processors"] == [{"_target_": f"{here}.Rule", "mass": 0.9}, f"{here}.test_guidance_scales"]
    assert plain["temperature"] == 1.0
