"""The page's actions, and the page itself in a browser without a screen."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import Generator
from pipelines.playground import neighbours
from pipelines.playground.actions import Actions
from pipelines.tracking.image_grid import grid
from pipelines.training.images import open_images, run_data
from tests.support.pages import ROOT


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


def test_nearest_training_images_by_brute_force(actions, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "AT_A_TIME", 300)  # the nearest is not among the last ones that are looked at
    run = actions.generator.origin.run
    train = open_images({"data": run_data(run, {}), "trust": []}).train
    pixels = train.__getitems__(list(range(len(train))))["images"].numpy()
    noise = np.random.default_rng(0).integers(-20, 20, (9, 28, 28, 1))
    images = (pixels[[5, 1000, 7, 2000, 5, 3, 4499, 0, 1]] + noise).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    result = actions.nearest(str(tmp_path / "images.npz"))
    errors = [((pixels / 255 - image / 255) ** 2).mean((1, 2, 3)) for image in images]
    nearest = pixels[[error.argmin() for error in errors]]
    psnr = -10 * np.log10([error.min() for error in errors])
    assert f"nearest of {len(train)} training images" in result.said
    assert f"{psnr.max():.1f} dB PSNR for the nearest pair, {np.median(psnr):.1f} dB" in result.said
    nothing = np.zeros((7, 28, 28, 1), np.uint8)
    rows = np.concatenate([images[:8], nearest[:8], images[8:], nothing, nearest[8:], nothing])
    opaque = np.repeat(np.array([255, 0, 255, 0], np.uint8), [17, 7, 1, 7])[:, None, None, None]
    shown = np.concatenate([rows, np.broadcast_to(opaque, rows.shape)], 3)
    assert np.array_equal(np.array(result.picture), np.array(grid(shown, 8, ground=0)))
    # The page is light or dark: what stands between images lets it through.
    assert result.picture.getpixel((0, 0)) == (0, 0)
    with pytest.raises(ValueError, match="Draw images first"):
        actions.nearest(None)


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


@pytest.mark.slow
def test_in_a_notebook(tiny_run, tmp_path):
    pytest.importorskip("gradio")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    texts = (
        f"from pipelines import Generator\npage = Generator.load({str(tiny_run)!r}, device='cpu').play()",
        "from urllib.request import urlopen\nprint(urlopen(page.local_url).status, page.local_url)\npage.close()",
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    client = nbclient.NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute(env=environment)
    opened, asked = book.cells
    (said,) = [output.text for output in asked.outputs if output.output_type == "stream" and "200" in output.text]
    address = said.split()[1]
    shown = [output.data.get("text/html", "") for output in opened.outputs if "data" in output]
    assert any(f'<iframe src="{address}"' in html for html in shown), opened.outputs


def reach(tab, name, most=40):
    """Press Tab until a control has the focus; returns the names of those before it."""
    seen = []
    for _ in range(most):
        tab.keyboard.press("Tab")
        what = "(e => e.ariaLabel || e.innerText || e.title || e.tagName)(document.activeElement)"
        seen.append(tab.evaluate(what).strip())
        if seen[-1] == name:
            return seen[:-1]
    raise AssertionError(f"{name} is not among {seen}")


def test_in_a_browser(actions, tmp_path):
    pytest.importorskip("gradio")
    browsers = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs a browser")
    Image.new("RGB", (60, 40), "orange").save(tmp_path / "mine.png")
    page = actions.generator.play()
    try:
        with browsers.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            tab, wrong = browser.new_page(viewport={"width": 390, "height": 900}), []
            tab.set_default_timeout(60_000)
            tab.on("pageerror", lambda error: wrong.append(str(error)))
            tab.goto(page.local_url, timeout=120_000)

            def told(text):
                tab.wait_for_function(f"document.body.innerText.includes({text!r})")

            tab.get_by_role("button", name="Draw").wait_for()
            # By the keyboard alone: to the button, which Enter presses.
            before = reach(tab, "Draw")
            assert {"Sample", "Class", "range slider for Images", "Seed"} <= set(before), before
            tab.keyboard.press("Enter")
            told("16 images, 16 codes each")
            told("pipelines.sample")
            tab.get_by_role("button", name="Nearest training images").click()
            told("dB PSNR for the nearest pair")
            # A stroke over the middle of a sample.
            tab.get_by_role("tab", name="Complete").click()
            with tab.expect_response(lambda answer: "file=" in answer.url):
                tab.get_by_role("button", name="Take a sample").click()
            tab.wait_for_timeout(2000)  # until the canvas, of which the page says nothing, has it
            box = tab.locator("canvas:visible").first.bounding_box()
            x, y = box["x"], box["y"] + box["height"] / 2
            tab.mouse.move(x + 0.4 * box["width"], y)
            tab.mouse.down()
            tab.mouse.move(x + 0.6 * box["width"], y, steps=8)
            tab.mouse.up()
            tab.get_by_role("button", name="Complete", exact=True).click()
            told("4 images, 16 codes each")
            told("pipelines.complete")
            tab.get_by_role("tab", name="Reconstruct").click()
            tab.locator("input[type=file]:not([disabled])").last.set_input_files(tmp_path / "mine.png")
            tab.locator("img[src*='mine.png']").wait_for()
            tab.get_by_role("button", name="Reconstruct", exact=True).click()
            told("16 codes for 784 numbers")
            assert tab.evaluate("document.documentElement.scrollWidth") == 390  # no scrolling sideways on a phone
            assert wrong == []
            browser.close()
    finally:
        page.close()
