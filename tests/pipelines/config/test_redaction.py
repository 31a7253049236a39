import pytest

from pipelines.artifacts.models import save_model
from pipelines.config.claims import Claim
from pipelines.config.redaction import REDACTED, is_secret_name, redact
from stage1_vqvae.files import read_yaml
from stage1_vqvae.quantizers.fsq import FSQ


@pytest.mark.parametrize("name", ["api_key", "WANDB_API_KEY", "HF_TOKEN", "hub.token", "Password", "client-secret"])
def test_names_of_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["tokenizer", "tokens", "keys", "keep", "codebook_size", "monkey", "seed"])
def test_names_of_no_secrets(name):
    assert not is_secret_name(name)


def test_secrets_are_taken_out_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "s3cr3t-value")
    monkeypatch.setenv("OTHER_KEY", "1")
    plain = {
        "data": {"name": "a", "token": "given", "url": "https://me:s3cr3t-value@host", "sizes": (28, 1)},
        "overrides": ["+data.token=given", "n=1", "data.url=s3cr3t-value"],
        "api_key": None,
        "s3cr3t-value": True,
    }
    assert redact(plain) == {
        "data": {"name": "a", "token": REDACTED, "url": f"https://me:{REDACTED}@host", "sizes": [28, 1]},
        "overrides": [f"+data.token={REDACTED}", "n=1", f"data.url={REDACTED}"],
        "api_key": None,
        REDACTED: True,
    }


def test_a_claim_holds_no_secret_and_another_one_is_no_other_setting(tmp_path):
    path, product = tmp_path / "settings.yaml", tmp_path / "product"
    Claim(path, {"token": "first", "n": 1}, "thing", [product]).take()
    product.touch()
    assert "first" not in path.read_text()
    Claim(path, {"token": "second", "n": 1}, "thing", [product]).take()
    with pytest.raises(ValueError, match="n: 1, now 2"):
        Claim(path, {"token": "second", "n": 2}, "thing", [product]).take()


WORDS = ("vector", "stage1", "quantizers", "cosine", "12345678", "true")


@pytest.mark.parametrize("word", WORDS)
def test_plain_words_are_left_alone_with_a_warning(word, monkeypatch, capsys):
    monkeypatch.setenv(f"DB_{word}_PASSWORD", word)  # a name of its own: each is warned of once
    plain = {"_target_": "stage1_vqvae.quantizers.vector.VectorQuantizer", "metric": "cosine", "note": f"my {word}"}
    assert redact({**plain, "word": word}) == {**plain, "word": word}
    assert redact({"word": word}) == {"word": word}
    assert capsys.readouterr().err.count(f"the value of DB_{word}_PASSWORD is short or a plain word") == 1


def test_parts_of_words_are_left_alone(monkeypatch, capsys):
    monkeypatch.setenv("MY_TOKEN", "quant1zers")
    assert redact({"a": "xquant1zers", "b": "quant1zers2", "c": "a/quant1zers/b"}) == {
        "a": "xquant1zers",
        "b": "quant1zers2",
        "c": f"a/{REDACTED}/b",
    }
    assert redact({"label_key": 3, "api_key": "x"}) == {"label_key": 3, "api_key": REDACTED}
    assert capsys.readouterr().err == ""


def test_a_models_configuration_is_never_changed(monkeypatch, tmp_path):
    monkeypatch.setenv("DB_PASSWORD", "stage1_vqvae.quantizers.FSQ")
    model = {"_target_": "stage1_vqvae.quantizers.FSQ", "levels": [3, 3]}
    save_model(tmp_path, "quantizer", FSQ([3, 3]), {"model": model, "data": {"url": "stage1_vqvae.quantizers.FSQ"}})
    saved = read_yaml(tmp_path / "config.yaml")
    assert saved["model"] == model
    assert saved["data"] == {"url": REDACTED}
    monkeypatch.setenv("DB_PASSWORD", "stage1_vqvae.quantizers")  # a class is its whole path, also in settings
    assert redact({"model": model, "x": "stage1_vqvae.quantizers.FSQ"}) == {"model": model, "x": f"{REDACTED}.FSQ"}
