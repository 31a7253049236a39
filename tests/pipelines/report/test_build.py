import base64
import csv
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.numpy import save_file

from pipelines.artifacts.run_folder import RunFolder
from pipelines.report.build import write_report
from stage1_vqvae.codes import CodeLayout
from stage2_prior.code_store.manifest import Manifest
from stage2_prior.code_store.writer import CodeStoreWriter

FINGERPRINT = "ab" * 32
LAYOUT = CodeLayout(((2, 3),), (8,))
TOKENIZER = {"mse": 0.01234567, "psnr": 25.678912, "ssim": 0.912345, "usage": 0.875, "perplexity": 6.54321}
PRIOR = {"nats": 1.234567, "bits": 1.781104, "uniform_nats": math.log(8), "unigram_nats": 1.98765}
VOID = {"meta", "img", "wbr"}


class Page(HTMLParser):
    """A report's text, tables and pictures; refuses tags that do not nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open, self.tags, self.links, self.headings, self.texts = [], [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data.strip())

    def pictures(self) -> list[np.ndarray]:
        decoded = (base64.b64decode(link.removeprefix("data:image/png;base64,"), validate=True) for link in self.links)
        return [np.asarray(Image.open(io.BytesIO(data))) for data in decoded]


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((20, 50), value, np.uint8)
    pixels[3, 4] = 255 - value
    Image.fromarray(pixels).save(path)


def model(folder, config, metrics, settings):
    folder.mkdir(parents=True)
    save_file(
        {"weight": np.zeros((30, 40), np.float32), "bias": np.zeros(40, np.float32)}, folder / "model.safetensors"
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))


def store(folder, layout):
    rows = torch.arange(12 * layout.length).reshape(12, -1) % 5  # codes 0 to 4 of 8
    manifest = Manifest(FINGERPRINT, layout, {"source": "x"}, {"copies": 1}, (), 12)
    writer = CodeStoreWriter(folder, manifest)
    writer.write(0, rows, torch.full((12,), -1))
    writer.publish()


def log(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("stage", "step", "metric", "value"), *rows])


def make_run(path, classes=("cat", "dog"), layout=LAYOUT):
    size = {"height": 28, "width": 30}
    data = {"train": {"source": "pets", "count": 4321, "preprocessing": size}}
    model(path / "tokenizer", {"data": data}, TOKENIZER, {"stage1": {"width": 77}})
    config = {"model": {"_target_": "a.b.Transformer"}, "layout": layout.to_dict(), "num_classes": len(classes)}
    model(path / "prior", {**config, "class_names": list(classes), "tokenizer": FINGERPRINT}, PRIOR, {"layers": 99})
    store(path / "codes" / "train", layout)
    log(
        path / "logs" / "metrics.csv",
        [
            *(("stage1", step, "train/reconstruction", 10.0 / step) for step in range(10, 110, 10)),
            *(("stage1", step, f"validation/{name}", TOKENIZER[name]) for step in (49, 99, 100) for name in TOKENIZER),
            *(("stage2", step, "train/nats", 30.0 / step) for step in range(10, 110, 10)),
            *(("stage2", 49 + k, "validation/nats", nats) for k, nats in ((0, 1.234567), (50, 1.5), (51, 1.234567))),
            ("stage2", 49, "validation/uniform_nats", math.log(8)),
            ("stage2", 49, "validation/unigram_nats", 1.98765),
        ],
    )
    for step in (50, 100):
        picture(path / f"logs/pictures/stage1/reconstructions-{step:07d}.png", step)
    for step in (10, 20, 30, 40, 50):
        picture(path / f"logs/pictures/stage2/samples-{step:07d}.png", step)
    picture(path / "samples" / "grid.png", 200)
    drawn = {"n": 20, "label": None, "seed": 5, "temperature": 0.85, "top_k": None, "top_p": None, "guidance": 1.5}
    (path / "samples" / "settings.yaml").write_text(yaml.safe_dump(drawn))
    return path


def report(path):
    write_report(RunFolder(path))
    return (path / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "demo")


def test_a_finished_run_shows_every_section(run):
    page = Page(report(run))
    assert page.headings == ["Samples", "Tokenizer", "Prior", "Metrics", "Configuration", "How to go on"]
    assert "4,321 images of pets, 28×30" in page.texts
    assert "6 codes of 8 in a 2×3 grid" in page.texts
    assert "Transformer prior over 2 classes" in page.texts
    assert not any("not finished" in words for words in page.texts)


def test_the_table_holds_the_metrics_of_the_files(run):
    table = re.findall(r'<td>(\w+)</td><td>(\w+)</td><td class="number">([^<]+)</td>', report(run))
    shown = {(part, name): float(value) for part, name, value in table}
    expected = {("tokenizer", name): value for name, value in TOKENIZER.items()}
    expected |= {("prior", name): value for name, value in PRIOR.items()}
    assert shown == pytest.approx(expected, rel=1e-5)


def test_the_cards_hold_the_metrics_of_the_files(run):
    cards = re.findall(r'<div class="card"><span>(.*?)</span><b>(.*?)</b><small>(.*?)</small>', report(run))
    values = {name: value for name, value, _ in cards}
    remarks = {name: remark for name, _, remark in cards}
    assert values == {
        "PSNR": "25.68 dB",
        "SSIM": "0.9123",
        "Codes in use": "87.5 %",
        "Perplexity": "6.543",
        "Nats per code": "1.235",
        "Weights": "2.48 k",  # of each model 30 × 40 + 40
    }
    assert remarks["Nats per code"] == "log K is 2.079, frequencies alone 1.988"
    assert remarks["Perplexity"] == "of 8 codes, held out"


def test_pictures_are_those_of_the_run_enlarged_without_smoothing(run):
    pictures = Page(report(run)).pictures()
    # The samples, the last reconstructions, then samples from the first, middle and last validation.
    assert [int(pixels[0, 0]) for pixels in pictures] == [200, 100, 10, 30, 50]
    for pixels in pictures:
        value = int(pixels[0, 0])
        assert pixels.shape == (400, 1000)
        assert np.all(pixels[60:80, 80:100] == 255 - value)
        assert np.count_nonzero(pixels != value) == 20 * 20


def test_a_huge_picture_is_reduced(run):
    Image.new("RGB", (4000, 2000), (1, 2, 3)).save(run / "samples" / "grid.png")
    pixels = Page(report(run)).pictures()[0]
    assert pixels.shape == (800, 1600, 3)
    assert (pixels == (1, 2, 3)).all()


def test_the_page_needs_nothing_else(run):
    page = Page(report(run))
    assert all(link.startswith("data:") for link in page.links)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in report(run)


def test_samples_say_how_they_were_drawn_and_of_which_class(run):
    source = report(run)
    for name, value in (("n", "20"), ("seed", "5"), ("temperature", "0.85"), ("guidance", "1.5")):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in source
    assert "<dt>top-p</dt>" not in source
    assert source.count("<dt>prior</dt>") == 1  # its fingerprint, in the configuration
    assert re.findall(r'<span title="(\w+)">', source) == ["cat", "dog"] * 5


def test_without_classes_none_are_named(tmp_path):
    source = report(make_run(tmp_path / "run", classes=()))
    assert "Transformer prior" in Page(source).texts
    assert "The classes come in turn" not in source
    assert " label=" not in " ".join(Page(source).texts)


def test_columns_that_are_no_classes_have_no_heads(tmp_path):
    assert "<span title=" not in report(make_run(tmp_path / "run", classes=("a", "b", "c")))


def test_curves_leave_out_the_validation_that_closes_a_stage(run):
    tips = re.findall(r'<circle class="dot[^>]*><title>(.*?)</title>', report(run))
    assert "step 49: 25.68" in tips
    assert "step 99: 25.68" in tips
    assert "step 99: 1.5" in tips
    assert not any(tip.startswith("step 100:") for tip in tips)
    assert "held out, lowest 1.235" in Page(report(run)).texts


def test_reference_lines_of_the_prior_are_those_logged(run):
    texts = Page(report(run)).texts
    assert "log K 2.079" in texts
    assert "frequencies alone 1.988" in texts


def test_the_codebook_histogram_counts_training_codes(run):
    assert "5 of 8 codes occur in training images" in Page(report(run)).texts


def test_metrics_that_are_not_finite_are_not_drawn(run):
    with (run / "logs" / "metrics.csv").open("a") as file:
        file.write("stage1,200,train/reconstruction,nan\nstage1,200,validation/psnr,inf\nstage2,200,train/nats,nan\n")
    drawn = " ".join(re.findall(r' d="(.*?)"', report(run)))
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_several_grids_are_shown_apart(tmp_path):
    run = make_run(tmp_path / "run", layout=CodeLayout(((1, 2), (2, 2)), (8, 16)))
    metrics = {"psnr": 20.0, "usage_0": 0.5, "usage_1": 0.25, "perplexity_0": 3.0, "perplexity_1": 4.5}
    (run / "tokenizer" / "metrics.json").write_text(json.dumps(metrics))
    with (run / "logs" / "metrics.csv").open("w") as file:
        file.write("stage,step,metric,value\n")
        file.writelines(f"stage1,9,validation/{name},{value}\n" for name, value in metrics.items())
    texts = Page(report(run)).texts
    assert "6 codes of 8 + 16 in a 1×2 + 2×2 grid" in texts
    assert {"50 % · 25 %", "3 · 4.5", "of 8 and 16 codes, held out", "grid 0 50 %", "grid 1 25 %"} <= set(texts)
    assert "5 of 8 codes occur in training images, grid 0 (1×2)" in texts
    assert "5 of 16 codes occur in training images, grid 1 (2×2)" in texts


@pytest.mark.parametrize(
    ("missing", "headings", "left"),
    [
        (["samples"], ["Tokenizer", "Prior", "Metrics", "Configuration", "How to go on"], "samples"),
        (
            ["samples", "prior", "logs/pictures/stage2"],
            ["Tokenizer", "Prior", "Metrics", "Configuration", "How to go on"],
            "prior, samples",
        ),
        (
            ["samples", "prior", "codes", "logs", "tokenizer/config.yaml", "tokenizer/metrics.json"],
            ["Configuration", "How to go on"],
            "tokenizer, codes, prior, samples",
        ),
        (["samples", "prior", "codes", "logs", "tokenizer"], ["How to go on"], "tokenizer, codes, prior, samples"),
        (["logs"], ["Samples", "Tokenizer", "Metrics", "Configuration", "How to go on"], None),
    ],
)
def test_a_run_that_is_half_done_shows_what_it_has(run, missing, headings, left):
    for name in missing:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(report(run))
    assert page.headings == headings
    notes = [words for words in page.texts if "not finished" in words]
    assert notes == ([f"This run is not finished, still to come: {left}."] if left else [])


def test_samples_and_codes_that_are_being_made_are_left_out(run):
    (run / "samples" / "grid.png").unlink()
    (run / "codes" / "train" / "manifest.json").unlink()
    page = Page(report(run))
    assert "Samples" not in page.headings
    assert not any("occur in training" in words for words in page.texts)
    assert "6 codes of 8 in a 2×3 grid" in page.texts  # the prior knows it too


def test_names_are_shown_as_they_are(tmp_path):
    evil = '<script>alert("1")</script>&amp;'
    run = make_run(tmp_path / '<b>"run"&amp;', classes=(evil, "b"))
    (run / "prior" / "settings.yaml").write_text(f"note: '{evil}'\n")
    page = Page(report(run))
    assert "script" not in page.tags
    assert page.texts.count('<b>"run"&amp;') == 1
    assert page.texts.count(evil) == 5
    assert f"note: '{evil}'" in page.texts


def test_settings_and_fingerprints_are_there(run):
    texts = Page(report(run)).texts
    assert {"tokenizer/settings.yaml", "prior/settings.yaml", "samples/settings.yaml", FINGERPRINT} <= set(texts)
    assert any("width: 77" in words for words in texts)
    assert sum(bool(re.fullmatch("[0-9a-f]{64}", words)) for words in texts) == 3


def test_a_job_of_a_sweep_is_named_with_the_sweep(tmp_path):
    texts = Page(report(make_run(tmp_path / "rates" / "3"))).texts
    assert "rates/3" in texts
    assert "rates/3 – report" in texts


def test_commands_name_the_run_as_it_is_called_from_here(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    source = report(run)
    assert "python -m pipelines.sample model=demo n=20 seed=5\n" in source
    assert "python -m pipelines.sample model=demo n=64 label=0 seed=1 temperature=0.9</pre>" in source
    code = next(words for words in Page(source).texts if words.startswith("from pipelines.generator"))
    compile(code, "snippet", "exec")
    assert "Generator.load('demo')" in code


def test_a_damaged_run_keeps_its_old_report(run):
    before = report(run)
    (run / "tokenizer" / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json"):
        write_report(RunFolder(run))
    assert (run / "report.html").read_text(encoding="utf-8") == before
    assert [path.name for path in run.glob(".tmp*")] == []
