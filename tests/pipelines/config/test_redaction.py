import pytest

from pipelines.config.claims import Claim
from pipelines.config.redaction import REDACTED, is_secret_name, redact


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
