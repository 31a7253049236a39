import pytest

from pipelines.config.claims import claim, differences


def test_the_same_settings_may_come_again(tmp_path):
    path = tmp_path / "model" / "settings.yaml"
    claim(path, {"a": (1, 2), "b": {"c": None}}, "model")
    claim(path, {"b": {"c": None}, "a": [1, 2]}, "model")


def test_other_settings_are_refused_by_name_and_nothing_is_replaced(tmp_path):
    path = tmp_path / "settings.yaml"
    claim(path, {"stage1": {"lr": 0.1, "steps": 5}}, "tokenizer")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"holds a tokenizer of other settings \(stage1.lr: 0.1, now 0.2\)"):
        claim(path, {"stage1": {"lr": 0.2, "steps": 5}}, "tokenizer")
    assert path.read_bytes() == before


def test_differences_reach_into_nested_data():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}, "d": 3}) == ["a.c: 2, now None", "d: None, now 3"]
    assert differences([1, 2], (1, 2)) == []
