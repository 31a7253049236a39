import platform

import torch

from pipelines.artifacts.provenance import RECORD, version_of, write_record
from stage1_vqvae.files import read_json


def test_a_run_keeps_its_command_line_what_it_ran_on_and_versions(tmp_path):
    trainer = {"_target_": "pipelines.distributed.Hardware", "accelerator": "cpu"}
    write_record(tmp_path, {"overrides": ["seed=3", "stage2=pixelcnn"], "hardware": trainer, "n": 5})
    record = read_json(tmp_path / RECORD)
    assert record["overrides"] == ["seed=3", "stage2=pixelcnn"]
    assert record["hardware"] == trainer
    assert record["versions"]["python"] == platform.python_version()
    # Not every wheel's name tells its build.
    assert record["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]


def test_secrets_of_the_command_line_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    overrides = ["data.api_key=abc", "data.name=hf_very_secret"]
    write_record(tmp_path, {"overrides": overrides, "hardware": {}})
    text = (tmp_path / RECORD).read_text()
    assert "hf_very_secret" not in text
    assert "abc" not in text
    assert len(read_json(tmp_path / RECORD)["overrides"]) == 2


def test_a_run_from_python_has_no_command_line(tmp_path):
    write_record(tmp_path, {"hardware": {}})
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_installed_has_no_version():
    assert version_of("no-such-package-of-ours") == "unknown"
