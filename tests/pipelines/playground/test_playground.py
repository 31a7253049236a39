"""The page's actions, and the page itself in a browser without a screen."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import Generator
from pipelines.playground.actions import Actions


@pytest.fixture(scope="module")
def actions(tiny_run):
    return Actions(Generator.load(tiny_run, device="cpu"), most=8)


def test_samples_are_the_generators(actions):
    *unfinished, last = actions.sample("3", 4, 7, {"temperature": 0.5})
    ours = actions.generator.sample(4, label="3", seed=7, temperature=0.5)
    assert unfinished
    assert all("of 16" in result.said for result in unfinished)
    saved = np.load(last.files[1])
    assert np.array_equal(saved["codes"], ours.codes.numpy())
    assert np.array_equal(saved["images"], ours.images_uint8)
    assert np.array_equal(np.array(Image.open(last.files[0])), np.array(ours.grid(8)))
    assert "pipelines.sample" in last.recipe
    assert "seed=7" in last.recipe


def test_completions_keep_what_is_not_painted(actions):
    image = actions.one(1)
    redraw = np.zeros((28, 28), bool)
    redraw[14:] = True
    result = actions.complete(image, redraw, 3, None, 0)
    found = np.load(result.files[1])
    codes = actions.generator.encode(image)
    assert (found["codes"][:, :4] == codes[0, :4].numpy()).all()  # the first row of 4×4 codes lies above
    assert len(found["codes"]) == 3


def test_reconstructions(actions):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))
    result = actions.reconstruct(image)
    expected = actions.generator.reconstruct(image, resize=True)
    assert np.array_equal(np.load(result.files[1])["images"], (expected * 255).round().byte().movedim(1, -1).numpy())
    assert "dB" in result.said


def test_requests_are_bounded(actions):
    for n in (0, 9, 1.5):
        with pytest.raises(ValueError, match="1 to 8 images"):
            next(actions.sample(None, n, 0, {}))
    with pytest.raises(ValueError, match="A seed is"):
        next(actions.sample(None, 1, -1, {}))
    with pytest.raises(ValueError, match="temperature"):
        list(actions.sample(None, 1, 0, {"temperature": -1.0}))
    with pytest.raises(ValueError, match="4096 a side at most"):
        actions.reconstruct(Image.new("L", (5000, 2)))
    with pytest.raises(ValueError, match="Paint over"):
        actions.complete(Image.new("L", (28, 28)), torch.zeros(28, 28, dtype=torch.bool).numpy(), 1, None, 0)


def test_in_a_browser(actions):
    pytest.importorskip("gradio")
    browsers = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs a browser")
    page = actions.generator.play()
    try:
        with browsers.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            tab, wrong = browser.new_page(viewport={"width": 390, "height": 900}), []
            tab.on("pageerror", lambda error: wrong.append(str(error)))
            tab.goto(page.local_url, timeout=120_000)
            tab.get_by_role("button", name="Draw").click(timeout=60_000)
            tab.get_by_text("16 images, 16 codes each").wait_for(timeout=60_000)
            tab.wait_for_function("document.body.innerText.includes('pipelines.sample')", timeout=60_000)
            assert tab.evaluate("document.documentElement.scrollWidth") == 390  # no scrolling sideways on a phone
            assert wrong == []
            browser.close()
    finally:
        page.close()
