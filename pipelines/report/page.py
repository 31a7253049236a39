"""The report's page: one self-contained HTML file for laptops and phones, light and dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

SHARP, LARGEST = 1000, 1600
"""Pixels across: smaller pictures are enlarged without smoothing, larger ones reduced."""

STYLE = """
:root{color-scheme:light dark;--page:#f7f7f5;--card:#fff;--text:#1d2127;--soft:#646b76;--line:#e4e5e7;
--a:#2f6fd0;--b:#c2620e;--c:#17836a;--faint:#a9bddd;--code:#f1f2f3}
@media(prefers-color-scheme:dark){:root{--page:#14161a;--card:#1c1f25;--text:#e6e8eb;--soft:#99a1ad;--line:#30353d;
--a:#7db0ff;--b:#f0a35e;--c:#5fcfb0;--faint:#5b7199;--code:#14161a}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:2rem;line-height:1.2;margin:0 0 8px;letter-spacing:-.015em}
h2{font-size:1.25rem;line-height:1.3;margin:48px 0 4px;letter-spacing:-.01em}
h3{font-size:1rem;line-height:1.4;margin:32px 0 4px}.box h3{margin:0 0 6px}
p{margin:0 0 14px}
.soft,figcaption,th,dt{color:var(--soft)}
.flow{display:flex;flex-wrap:wrap;gap:4px 10px;color:var(--soft)}
.flow span+span::before{content:"→";margin-right:10px;color:var(--a)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:24px 0 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.card span,.card small{display:block;color:var(--soft);font-size:.8125rem;line-height:1.4}
.card b{display:block;font-size:1.5rem;line-height:1.3;font-weight:650;font-variant-numeric:tabular-nums}
.note{border-left:3px solid var(--b);padding:2px 0 2px 12px;margin:16px 0 0}
.box{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px;margin:14px 0 0}
.beside{display:grid;grid-template-columns:minmax(0,720px) minmax(0,1fr);gap:28px}
.three{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:16px}
.two{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:14px;margin:14px 0 0}
.two .box{margin:0}.two .box:last-child:nth-child(odd){grid-column:1/-1}
figure{margin:0}figcaption{font-size:.875rem;line-height:1.45}
img{display:block;width:100%;height:auto;border-radius:6px}
img+figcaption{margin-top:8px}
.heads{display:grid;font-size:.75rem;color:var(--soft);text-align:center;margin-bottom:4px}
.heads span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;padding:0 1px}
dl{display:grid;grid-template-columns:fit-content(60%) 1fr;gap:4px 16px;margin:0;font-size:.9375rem}
dd{margin:0;font-variant-numeric:tabular-nums}
.chart figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:2px 16px;margin-bottom:12px}
.chart figcaption b{color:var(--text);font-size:.9375rem}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.8125rem}
.key::before{content:"";display:inline-block;width:16px;vertical-align:.22em;margin-right:6px;
border-top:2px solid var(--tone)}
.key.dashed::before{border-top-style:dashed}.key.block::before{border-top-width:9px;width:9px;vertical-align:0}
.a{--tone:var(--a)}.b{--tone:var(--b)}.c{--tone:var(--c)}.faint{--tone:var(--faint)}
.plot{display:grid;grid-template-columns:3.4em 1fr;font-size:.75rem;line-height:1;color:var(--soft);
font-variant-numeric:tabular-nums;padding:0 .9em 0 0}
.rows,.columns,.area{position:relative}
.area{height:220px}
.rows span{position:absolute;right:.7em;transform:translateY(-50%);white-space:nowrap}
.columns{grid-column:2;height:1em;margin-top:.7em}
.columns span{position:absolute;transform:translateX(-50%);white-space:nowrap}
.unit{grid-column:2;text-align:center;margin-top:.5em}
svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
svg path{fill:none;stroke:var(--tone);stroke-width:2;stroke-linejoin:round;vector-effect:non-scaling-stroke}
svg .grid{stroke:var(--line);stroke-width:1}svg .faint{stroke-width:1.5}
svg .dashed{stroke-dasharray:5 4;stroke-width:1.5}svg .bars{fill:var(--a);stroke:none}
.dot{position:absolute;width:14px;height:14px;margin:-7px;border-radius:50%}
.dot::before{content:"";position:absolute;inset:3px;border-radius:50%;background:var(--tone);opacity:0}
.dot.marked::before,.dot:hover::before{opacity:1}
.dot.marked::before{box-shadow:0 0 0 2px var(--card)}
.dot:hover{z-index:1}
.dot:hover::after{content:attr(data-tip);position:absolute;bottom:18px;left:0;padding:6px 8px;border-radius:6px;
background:var(--text);color:var(--card);font-style:normal;white-space:nowrap}
.dot.right:hover::after{left:auto;right:0}
table{border-collapse:collapse;width:100%;font-size:.9375rem}
th,td{text-align:left;padding:7px 12px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:500;font-size:.8125rem}tr:last-child td{border-bottom:0}
td.number{font-variant-numeric:tabular-nums;white-space:nowrap}th.right,td.right{text-align:right;padding-right:24px}
tr.best td{font-weight:650}
details{border-bottom:1px solid var(--line)}details:last-of-type{border-bottom:0}
summary{cursor:pointer;padding:8px 0}
pre,code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.8125rem}
pre{background:var(--code);border:1px solid var(--line);border-radius:8px;padding:12px 14px;margin:4px 0 14px;
line-height:1.5;overflow-x:auto;overflow-wrap:normal}
a{color:var(--a)}
.jobs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:14px;margin:14px 0 0}
.jobs .box{margin:0}.job{font-size:.875rem;line-height:1.45;margin-bottom:10px}
.job span{color:var(--soft);white-space:nowrap;font-variant-numeric:tabular-nums}.job .note{margin:8px 0 0}
.figures td small{display:block;color:var(--soft);font-size:.8125rem;line-height:1.4}
.figures td.number{text-align:right;padding-right:0}
.scroll table{min-width:max-content}
@media(max-width:760px){main{padding:24px 16px 48px}h1{font-size:1.625rem}h2{margin-top:36px}
.beside,.three,.two{grid-template-columns:minmax(0,1fr)}.beside{gap:16px}
.cards{grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}.card{padding:12px 14px}.card b{font-size:1.25rem}
.box{padding:14px}.scroll{overflow-x:auto}.scroll img{width:640px;max-width:none}
.heads.long span{writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;justify-self:center;max-height:7em}
td.meaning,th.meaning{display:none}}
"""


def page(title: str, sections: Iterable[str]) -> str:
    """The whole document; the title is plain text, the sections are HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "".join(sections)
        + "</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """Parts (HTML) under a heading; nothing where no part says anything."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n" if any(parts) else ""


def heading(words: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(words)}</h3>\n"


def text(words: str) -> str:
    """A paragraph that explains."""
    return f'<p class="soft">{escape(words)}</p>\n'


def card(name: str, value: str, remark: str) -> str:
    """A key figure."""
    return f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(remark)}</small></div>\n'


def box(*parts: str, layout: str = "") -> str:
    """Parts (HTML) on a panel; ``layout`` is a CSS class."""
    return f'<div class="box"><div class="{layout}">{"".join(parts)}</div></div>\n' if any(parts) else ""


def two_abreast(*boxes: str) -> str:
    """Boxes in two columns, on a phone in one."""
    return f'<div class="two">\n{"".join(boxes)}</div>\n' if boxes else ""


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """Names and values."""
    rows = ((escape(name).replace(".", ".<wbr>"), escape(value)) for name, value in items)
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows) + "</dl>\n"


def table(heads: Sequence[str], rows: Iterable[tuple[str, str, str, str]]) -> str:
    """A table of figures: what of, which, how much, and what it means."""
    classes = ("", "", "number", "meaning")
    head = "".join(f'<th class="{kind}">{escape(cell)}</th>' for kind, cell in zip(classes, heads, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{escape(cell)}</td>' for kind, cell in zip(classes, row, strict=True))
        + "</tr>\n"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>\n"


def figures(title: str, rows: Iterable[tuple[str, str, str]]) -> str:
    """A panel of figures: which, how much, and below its name what it means."""
    body = "".join(
        f"<tr><td>{escape(name).replace('_', '_<wbr>')}<small>{escape(meaning)}</small></td>"
        f'<td class="number">{escape(value)}</td></tr>\n'
        for name, value, meaning in rows
    )
    return f'<div class="box"><h3>{escape(title)}</h3><table class="figures">{body}</table></div>\n'


def listing(content: str) -> str:
    """Commands, code or a file as it stands."""
    return f"<pre>{escape(content)}</pre>\n"


def folded(title: str, content: str) -> str:
    """A listing that opens when its title is clicked."""
    return f"<details><summary><code>{escape(title)}</code></summary>{listing(content)}</details>\n"


def picture(path: Path, alt: str, caption: str = "", heads: Sequence[str] = (), width: int = LARGEST) -> str:
    """A picture inside the page, at most so many pixels across, with a caption below and names above its columns."""
    above = ""
    if heads:
        kind = "heads long" if max(map(len, heads)) > 3 else "heads"
        names = "".join(f'<span title="{escape(name)}">{escape(name)}</span>' for name in heads)
        above = f'<div class="{kind}" style="grid-template-columns:repeat({len(heads)},1fr)">{names}</div>'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure>{above}<img src="{data_uri(path, width)}" alt="{escape(alt)}">{below}</figure>\n'


def data_uri(path: Path, width: int = LARGEST) -> str:
    """A PNG for an ``img``, of a size that is sharp on a dense screen and no larger."""
    with Image.open(path) as file:
        image: Image.Image = file
        zoom = -(-min(SHARP, width) // image.width)
        if zoom > 1:
            image = image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST)
        elif image.width > width:
            size = (width, max(1, round(image.height * width / image.width)))
            image = image.resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
