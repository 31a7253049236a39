from pipelines.evaluation.wording import meaning, reading, remarks

LATENTS = {"mse_right_codes": 0.02, "mse_shuffled_codes": 0.4, "mse_common_codes": 0.3}


def test_reads_whether_the_codes_are_used():
    likelihood = {"uniform_bits_per_image": 144.0, "prior_bits_per_image": 64.04}
    said = reading({"latents": LATENTS, "codes": {"usage": 0.99, "perplexity": 5.0}, "likelihood": likelihood})
    assert said == (
        "The codes carry the images: the error is 0.02 with an image's own codes, 0.4 with another's, 0.3 with the "
        "most common; 99% of the codes are in use; the prior spends 64.0 bits on an image's codes, of 144.0."
    )
    ignored = {"latents": {**LATENTS, "mse_right_codes": 0.39}, "codes": {"usage_0": 0.01, "usage_1": 1.0}}
    assert reading(ignored).startswith("The codes hardly matter")
    assert "1% and 100% of the codes" in reading(ignored)
    assert reading({"latents": {**LATENTS, "mse_right_codes": 0.3}}).startswith("The codes carry part of the images")


def test_says_what_is_missing():
    assert len(remarks({"likelihood": {}})) == 2
    assert remarks({"likelihood": {"bits_per_dim_of_pixels": 1.0, "nats_per_code": 1.0}, "samples": {"fid": 3.0}}) == []


def test_meanings_of_several_grids():
    assert meaning("usage_1") == meaning("usage") != ""
    assert meaning("unheard_of") == ""
