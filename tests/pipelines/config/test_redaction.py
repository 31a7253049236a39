import pytest

from pipelines.config.claims import claim
from pipelines.config.redaction import REDACTED, is_secret_name, redact
from stage1_vqvae.files import read_yaml


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
    claim(tmp_path / "settings.yaml", {"token": "first", "n": 1}, "thing")
    assert read_yaml(tmp_path / "settings.yaml") == {"token": REDACTED, "n": 1}
    claim(tmp_path / "settings.yaml", {"token": "second", "n": 1}, "thing")
    with pytest.raises(ValueError, match="n: 1, now 2"):
        claim(tmp_path / "settings.yaml", {"token": "second", "n": 2}, "thing")
