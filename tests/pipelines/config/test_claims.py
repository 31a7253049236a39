import pytest

from pipelines.config.claims import Claim, differences
from stage1_vqvae.files import read_yaml


def claim(folder, settings, made=True, **more):
    """A claim, after which there is a product, if wanted."""
    owner = Claim(folder / "model" / "settings.yaml", settings, "tokenizer", [folder / "model" / "weights"], **more)
    owner.take()
    if made:
        (folder / "model" / "weights").touch()
    return owner


def test_the_same_settings_may_come_again(tmp_path):
    claim(tmp_path, {"a": (1, 2), "b": {"c": None}})
    claim(tmp_path, {"b": {"c": None}, "a": [1, 2]})


def test_other_settings_are_refused_by_name_and_nothing_is_replaced(tmp_path):
    claim(tmp_path, {"stage1": {"lr": 0.1, "steps": 5}})
    before = (tmp_path / "model" / "settings.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"holds a tokenizer of other settings \(stage1.lr: 0.1, now 0.2\)"):
        claim(tmp_path, {"stage1": {"lr": 0.2, "steps": 5}})
    assert (tmp_path / "model" / "settings.yaml").read_bytes() == before


def test_changed_images_are_counted_and_no_digest_is_shown(tmp_path):
    images = {"train": {"count": 5, "digest": "abc"}, "validation": {"count": 2, "digest": "de"}}
    claim(tmp_path, {"images": images, "stores": {"train": "xyz"}})
    more = {**images, "train": {"count": 6, "digest": "bcd"}}
    with pytest.raises(ValueError, match=r"a tokenizer of other images \(images, train: 5 images, now 6\): give"):
        claim(tmp_path, {"images": more})
    other = {**images, "validation": {"count": 2, "digest": "fg"}}
    with pytest.raises(ValueError, match=r"validation: 2 images, now as many of other content, labels or order\)"):
        claim(tmp_path, {"images": other})
    with pytest.raises(ValueError, match=r"of other settings \(stores, train: other codes\)"):
        claim(tmp_path, {"stores": {"train": "uvw"}})


def test_metrics_of_images_that_moved_are_those_of_before(tmp_path):
    described = {"source": "folder a", "digest": "abc", "count": 5, "preprocessing": {"height": 8}}
    claim(tmp_path, {"data": {"train": described}})
    claim(tmp_path, {"data": {"train": {**described, "source": "folder b"}}})
    with pytest.raises(ValueError, match=r"data\.train\.preprocessing\.height: 8, now 9"):
        claim(tmp_path, {"data": {"train": {**described, "preprocessing": {"height": 9}}}})


def test_a_difference_is_told_by_the_name_of_its_key_on_the_command_line(tmp_path):
    names = {"copies": "codes.copies", "data": "images"}
    claim(tmp_path, {"copies": 1, "copies_kept": 1, "data": {"size": 8}}, names=names)
    expected = r"\(codes.copies: 1, now 2; copies_kept: 1, now 3; images.size: 8, now 9\)"
    with pytest.raises(ValueError, match=expected):
        claim(tmp_path, {"copies": 2, "copies_kept": 3, "data": {"size": 9}}, names=names)


def test_settings_that_made_nothing_are_replaced(tmp_path):
    claim(tmp_path, {"files": "my_imges"}, made=False)
    claim(tmp_path, {"files": "my_images"})
    assert read_yaml(tmp_path / "model" / "settings.yaml") == {"files": "my_images"}
    with pytest.raises(ValueError, match="files: my_images, now other"):
        claim(tmp_path, {"files": "other"})


def test_a_checkpoint_belongs_to_its_settings_also_without_the_model_folder(tmp_path):
    checkpoints = tmp_path / "checkpoints" / "stage1"
    claim(tmp_path, {"lr": 0.1}, made=False, checkpoints=checkpoints)
    (checkpoints / "step-00000010.ckpt").touch()
    with pytest.raises(ValueError, match=r"lr: 0.1, now 0.2"):
        claim(tmp_path, {"lr": 0.2}, checkpoints=checkpoints)
    (tmp_path / "model" / "settings.yaml").unlink()
    (tmp_path / "model").rmdir()
    with pytest.raises(ValueError, match=r"lr: 0.1, now 0.2") as error:
        claim(tmp_path, {"lr": 0.2}, checkpoints=checkpoints)
    assert str(error.value).endswith(f"or remove {checkpoints}")
    claim(tmp_path, {"lr": 0.1}, checkpoints=checkpoints)


def test_products_that_nothing_tells_the_settings_of_are_refused(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").touch()
    with pytest.raises(ValueError, match=r"holds a tokenizer, and no settings.yaml says what made it"):
        claim(tmp_path, {})


def test_all_that_has_to_go_is_named_and_going_by_it_works(tmp_path):
    codes, prior = tmp_path / "codes", tmp_path / "prior"
    codes.mkdir()
    claim(tmp_path, {"lr": 0.1}, dependents=[codes, prior])
    with pytest.raises(ValueError, match=f"remove {tmp_path}/model and {codes}$"):
        claim(tmp_path, {"lr": 0.2}, dependents=[codes, prior])


def test_content_is_compared_where_both_sides_know_it(tmp_path):
    claim(tmp_path, {"images": {"train": {"count": 4, "digest": "ab"}}})
    claim(tmp_path, {})
    with pytest.raises(ValueError, match=r"images, train: 4 images, now 5"):
        claim(tmp_path, {"images": {"train": {"count": 5, "digest": "ab"}}})


def test_images_are_compared_by_what_they_are_or_else_by_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def settings(files, **content):
        return {"data": {"_target_": "stage1_vqvae.data.Folder", "files": files, "channels": 3}, **content}

    claim(tmp_path, settings("photos"))  # as version 0.1.0 did
    claim(tmp_path, settings(str(tmp_path / "photos"), images={"train": {"count": 4, "digest": "ab"}}))
    with pytest.raises(ValueError, match=rf"data.files: {tmp_path}/photos, now {tmp_path}/others"):
        claim(tmp_path, settings("others"))
    known = tmp_path / "known"
    claim(known, settings("/here", images={"train": {"count": 4, "digest": "ab"}}))
    claim(known, settings("/there", images={"train": {"count": 4, "digest": "ab"}}))
    with pytest.raises(ValueError, match="images, train: 4 images, now as many of other content"):
        claim(known, settings("/here", images={"train": {"count": 4, "digest": "cd"}}))


def test_renamed_keys_and_new_defaults_are_no_difference(tmp_path):
    old = {"_target_": "stage1_vqvae.vqvae.VQVAE", "hidden": 128, "factor": 4, "margin": 2}
    new = {"_target_": "stage1_vqvae.VQVAE", "width": 128, "downsample_factor": 4, "padding": 2, "norm": "none"}
    claim(tmp_path, {"stage1": {"model": old, "trainer": {"max_steps": 5}}, "n": 3})
    claim(tmp_path, {"stage1": {"model": new, "trainer": {"max_steps": 5, "max_skipped": 20}}, "n": 3})
    settings = {"stage1": {"model": new, "trainer": {"max_steps": 5}}, "n": 3, "top_k": None}
    claim(tmp_path, settings, defaults={"top_k": None})
    with pytest.raises(ValueError, match=r"stage1.model.norm: none, now group"):
        claim(tmp_path, {"stage1": {"model": {**new, "norm": "group"}, "trainer": {"max_steps": 5}}, "n": 3})


def test_differences_reach_into_nested_data():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}, "d": 3}) == ["a.c: 2, now None", "d: None, now 3"]
    assert differences([1, 2], (1, 2)) == []
