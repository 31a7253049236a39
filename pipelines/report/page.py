"""Pages from the templates beside this file: one self-contained HTML file each, light and dark, for phones too."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.report.formatting import number, percent
from pipelines.report.pictures import data_uri
from stage1_vqvae.files import replacing


def write_page(path: Path, template: str, **context: Any) -> None:
    """Write a page, whole or not at all.

    Args:
        path: Of the page.
        template: Name of a template.
        context: What the template shows.
    """
    text = _pages().get_template(template).render(context)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@cache
def _pages() -> Any:
    environment = templates("pipelines.report", autoescape=True)
    environment.filters |= {"breakable": breakable, "data_uri": data_uri, "number": number, "percent": percent}
    return environment


def templates(package: str, autoescape: bool) -> Any:
    """Jinja2's environment of the templates in a package; autoescape for HTML.

    Imported here because no command needs Jinja2 before its last step.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def breakable(text: str, mark: str) -> Any:
    """HTML of a long name that a browser may break after each ``mark``."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(f"(?<={re.escape(mark)})", text))
