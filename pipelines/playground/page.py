"""The page: Gradio's components around the actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
import numpy as np
from gradio.themes import Default
from numpy.typing import NDArray
from PIL import Image

from pipelines.playground.actions import Actions, Result

ALL = "all in turn"
"""Choice of a class: every one."""

CANVAS = 384
"""Pixels of the longer side of an image that is painted on, at least."""

CODES = "The codes of the first image, each as it looks by itself:"

PLAIN: dict[str, Any] = {"type": "pil", "format": "png", "interactive": False, "buttons": [], "show_label": False}
"""How pictures are shown."""

THEME = Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
"""With fonts of the system: the page loads nothing from elsewhere."""


def page_of(actions: Actions, queue: int) -> gr.Blocks:
    """The page of a generator.

    Args:
        actions: What its buttons do.
        queue: Requests that may wait; others are told to come back.
    """
    generator = actions.generator
    with gr.Blocks(title="Playground", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(f"# Playground\n{str(generator).splitlines()[0]}, from `{actions.model}`.")
        with gr.Tab("Sample"):
            sample_tab(actions)
        with gr.Tab("Complete"):
            complete_tab(actions)
        with gr.Tab("Reconstruct"):
            reconstruct_tab(actions)
    page.queue(max_size=queue, default_concurrency_limit=1, api_open=False)
    return page


def sample_tab(actions: Actions) -> None:
    """New images, with every control."""
    generator, usual = actions.generator, actions.generator.settings
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            label = class_choice(generator, ALL)
            n = gr.Slider(1, actions.most, min(16, actions.most), step=1, label="Images")
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            button = gr.Button("Draw", variant="primary")
            with gr.Accordion("Sampling settings", open=False):
                temperature = gr.Slider(0, 2, usual.temperature, step=0.05, label="Temperature; 0 takes the likeliest")
                guidance = gr.Slider(0, 5, usual.guidance, step=0.25, label="Guidance; 1 is off")
                largest = max(generator.layout.codebook_sizes)
                top_k = gr.Slider(0, largest, usual.top_k or 0, step=1, label="Top-k; 0 is off")
                top_p = gr.Slider(0.05, 1, usual.top_p or 1, step=0.05, label="Top-p; 1 is off")
                min_p = gr.Slider(0, 1, usual.min_p or 0, step=0.01, label="Min-p; 0 is off")
        with gr.Column(scale=2, min_width=280):
            shown = outputs("The codes of the first image, as each looks by itself")
            arrays = gr.State(None)
            search = gr.Button("Nearest training images", visible=False)
            said = gr.Markdown(visible=False)
            pairs = gr.Image(label="Images above their nearest training images", visible=False, **PLAIN)

    def draw(
        label: str, n: int, seed: int, temperature: float, guidance: float, top_k: int, top_p: float, min_p: float
    ) -> Iterator[list[Any]]:
        settings = {
            "temperature": temperature,
            "guidance": guidance,
            "top_k": int(top_k) or None,
            "top_p": None if top_p == 1 else top_p,
            "min_p": min_p or None,
        }
        changed = {name: value for name, value in settings.items() if value != getattr(usual, name)}
        for result in said_on_the_page(lambda: actions.sample(None if label == ALL else label, n, seed, changed)):
            npz = result.files[1] if result.files else None
            yield [*components(result), npz, gr.update(visible=npz is not None), *[gr.update(visible=False)] * 2]

    def nearest(npz: str | None) -> list[Any]:
        (result,) = said_on_the_page(lambda: iter([actions.nearest(npz)]))
        return [gr.update(value=result.said, visible=True), gr.update(value=result.picture, visible=True)]

    given = [label, n, seed, temperature, guidance, top_k, top_p, min_p]
    changed_by_drawing = [*shown, arrays, search, said, pairs]
    button.click(draw, given, changed_by_drawing, concurrency_id="model", show_progress="minimal")
    seed.submit(draw, given, changed_by_drawing, concurrency_id="model", show_progress="minimal")
    search.click(nearest, arrays, [said, pairs], concurrency_id="model", show_progress="minimal")


def complete_tab(actions: Actions) -> None:
    """A part of an image is kept and the rest drawn."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            gr.Markdown("Paint over what is to be drawn anew.")
            editor = gr.ImageEditor(
                label="Paint over what is to be drawn anew",
                show_label=False,
                type="pil",
                sources=["upload", "clipboard"],
                brush=gr.Brush(default_size=48, colors=["#e02020"], color_mode="fixed"),
                layers=False,
                transforms=(),
                height=CANVAS + 60,
            )
            take = gr.Button("Take a sample")
            label = class_choice(actions.generator, "none")
            n = gr.Slider(1, min(16, actions.most), min(4, actions.most), step=1, label="Completions")
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
            button = gr.Button("Complete", variant="primary")
        with gr.Column(scale=2, min_width=280):
            shown = outputs("The codes of the first completion")

    def sampled(seed: int) -> Image.Image:
        return enlarged(actions.one(int(seed)))

    def complete(edited: dict[str, Any] | None, label: str, n: int, seed: int) -> list[Any]:
        image, redraw = painted(edited)
        chosen = None if label == "none" else label
        (result,) = said_on_the_page(lambda: iter([actions.complete(image, redraw, n, chosen, seed)]))
        return components(result)

    take.click(sampled, seed, editor, concurrency_id="model")
    button.click(complete, [editor, label, n, seed], shown, concurrency_id="model", show_progress="minimal")


def reconstruct_tab(actions: Actions) -> None:
    """An image of one's own through its codes."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            image = gr.Image(label="An image of yours", type="pil", sources=["upload", "clipboard"], image_mode=None)
            button = gr.Button("Reconstruct", variant="primary")
        with gr.Column(scale=2, min_width=280):
            shown = outputs("Its codes, as each looks by itself")

    def reconstruct(image: Image.Image | None) -> list[Any]:
        (result,) = said_on_the_page(lambda: iter([actions.reconstruct(image)]))
        return components(result, "Its codes, each as it looks by itself:")

    button.click(reconstruct, image, shown, concurrency_id="model", show_progress="minimal")


def class_choice(generator: Any, first: str) -> gr.Dropdown:
    """A choice of class; hidden for a prior without classes."""
    names = list(generator.class_names)
    return gr.Dropdown([first, *names], value=first, label="Class", visible=bool(names), filterable=len(names) > 12)


def outputs(codes: str) -> list[Any]:
    """What every action shows: images, a sentence, codes, downloads, and how to make them."""
    picture = gr.Image(label="Images", **PLAIN)
    said = gr.Markdown()
    with gr.Row():
        png = gr.DownloadButton("Download PNG", visible=False)
        npz = gr.DownloadButton("Download NPZ", visible=False)
    title = gr.Markdown(visible=False)
    patches = gr.Image(label=codes, visible=False, **PLAIN)
    recipe = gr.Code(label="The same by a command, or from Python", language="shell", visible=False, interactive=False)
    return [picture, said, png, npz, title, patches, recipe]


def components(result: Result, title: str = CODES) -> list[Any]:
    """Values of :func:`outputs`, with a title above the codes."""
    png, npz = result.files or (None, None)
    return [
        result.picture,
        result.said,
        gr.update(value=png, visible=png is not None),
        gr.update(value=npz, visible=npz is not None),
        gr.update(value=title, visible=result.codes is not None),
        gr.update(value=result.codes, visible=result.codes is not None),
        gr.update(value=result.recipe, visible=bool(result.recipe)),
    ]


def said_on_the_page(act: Callable[[], Iterator[Result]]) -> Iterator[Result]:
    """Results of an action; what is wrong is said on the page."""
    try:
        yield from act()
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error


def painted(edited: dict[str, Any] | None) -> tuple[Image.Image | None, NDArray[np.bool_]]:
    """The image below a painting, and where it is painted on, bool ``[H, W]``."""
    if not edited or edited.get("background") is None:
        return None, np.zeros((1, 1), dtype=bool)
    background, layers = edited["background"], edited.get("layers") or []
    redraw = np.zeros((background.height, background.width), dtype=bool)
    for layer in layers:
        redraw |= np.array(layer.convert("RGBA").getchannel("A")) > 0
    return background, redraw


def enlarged(picture: Image.Image) -> Image.Image:
    """A picture large enough to paint on."""
    zoom = max(1, -(-CANVAS // max(picture.size)))
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
