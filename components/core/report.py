"""The HTML report of a step: one self-contained page, easy on text, readable in light and dark.

A step adds parts from top to bottom and writes the page:

    figure, axes = new_axes()
    axes.bar(counts, bins)
    Report("Bins read").numbers([Number("bins", "10,000")]).figure(figure, "Bins by quantity").write(path)

Figures are embedded as SVG whose ink follows the page's text colour; photos are embedded as they are. A page that is
made does not know its run: whoever collects the pages of a run writes it into each of them, `with_origin`.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from components.core.files import write_whole

# Colours of data series that stand out from both a white and a black page.
SERIES = ("#3b82c4", "#e0782f", "#4aa36c", "#a06cc4")

# Drawn in this colour, replaced by the page's text colour when embedded.
INK = "#0a0b0c"


@dataclass(frozen=True)
class Number:
    """A headline figure: what it is, its value, and a line on how to read it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Photo:
    """One JPEG of a gallery, with its caption."""

    jpeg: bytes
    caption: str


@dataclass(frozen=True)
class Origin:
    """The run that a page belongs to: when, by which command and from what, and its pages by name ("" for this one)."""

    made: str
    command: str
    data: str
    links: Sequence[tuple[str, str]]


def with_origin(page: str, origin: Origin) -> str:
    """The page with when, from what and by which command it was made, and links to the others of its run."""
    return page.replace(_ORIGIN_MARK, _render(_ORIGIN, origin=origin), 1)


def new_axes(width: float = 7.2, height: float = 3.2) -> tuple[Figure, Axes]:
    """An empty plot in the report's style; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#8888", linewidth=0.5)
    return figure, axes


class Report:
    """A page that is built from top to bottom; every method returns the report, so that calls can be chained."""

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self.lead = lead
        self.parts: list[Markup] = []

    def heading(self, text: str) -> "Report":
        """Start a section."""
        return self.add("<h2>{{ text }}</h2>", text=text)

    def text(self, text: str) -> "Report":
        """Add a paragraph of plain text."""
        return self.add("<p>{{ text }}</p>", text=text)

    def numbers(self, numbers: Iterable[Number]) -> "Report":
        """Add a row of headline figures."""
        return self.add(_NUMBERS, numbers=list(numbers))

    def figure(self, figure: Figure, caption: str, alt: str = "") -> "Report":
        """Embed a matplotlib figure. `alt` says what it shows to someone who cannot see it; default is the caption."""
        svg = _svg(figure, salt=f"{self.title}{len(self.parts)}")
        width = round(100 * figure.get_figwidth())
        return self.add(_FIGURE, svg=svg, width=width, caption=caption, alt=alt or caption)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str) -> "Report":
        """Add a table; the first column names the row, numbers are set to the right."""
        return self.add(_TABLE, columns=columns, rows=[list(row) for row in rows], caption=caption)

    def gallery(self, photos: Iterable[Photo]) -> "Report":
        """Add photos with captions, side by side."""
        shown = [(base64.b64encode(photo.jpeg).decode(), photo.caption) for photo in photos]
        return self.add(_GALLERY, photos=shown)

    def html(self) -> str:
        """The whole page."""
        return _render(_PAGE, title=self.title, lead=self.lead, parts=self.parts)

    def write(self, path: str | Path) -> None:
        """Write the page to `path`, making its folder."""
        write_whole(path, self.html())

    def add(self, template: str, **values: object) -> "Report":
        """Add a part that only one page has, as a Jinja template; values are escaped."""
        self.parts.append(_render(template, **values))
        return self


def _render(template: str, **values: object) -> Markup:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.tests["numeric"] = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    return Markup(environment.from_string(template).render(**values))  # noqa: S704 - autoescaped


def _svg(figure: Figure, salt: str) -> Markup:
    """The figure as an inline <svg>. The salt keeps ids of several figures on one page apart."""
    _set_ink(figure)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    # Only the element itself: an XML prologue has no place inside a page.
    return Markup(svg[svg.index("<svg") :].replace(INK, "currentColor"))  # noqa: S704 - matplotlib escapes its texts


def _set_ink(figure: Figure) -> None:
    """Draw texts and lines that were left black in the page's own text colour."""
    for artist in (*figure.findobj(Text), *figure.findobj(Line2D)):
        if isinstance(artist, Text | Line2D) and artist.get_color() in ("black", "k", "#000000"):
            artist.set_color(INK)
    for axes in figure.axes:
        axes.tick_params(color=INK, labelcolor=INK)
        for spine in axes.spines.values():
            spine.set_color(INK)


_NUMBERS = """
<dl class="numbers">
  {% for number in numbers %}
  <div><dt>{{ number.label }}</dt><dd>{{ number.value }}</dd>{% if number.note %}<dd class="note">{{ number.note }}</dd>
  {% endif %}</div>
  {% endfor %}
</dl>
"""

_FIGURE = """
<figure role="img" aria-label="{{ alt }}">
<div class="plot" aria-hidden="true" style="max-width: {{ width }}px">{{ svg }}</div>
<figcaption>{{ caption }}</figcaption></figure>
"""

_TABLE = """
<div class="scroll" tabindex="0" role="region" aria-label="{{ caption }}"><table>
  <caption>{{ caption }}</caption>
  <thead><tr>{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
  <tbody>
  {% for row in rows %}
  <tr>
    {% for cell in row %}
    {% if loop.first %}<th scope="row">{{ cell }}</th>
    {% else %}<td{% if cell is numeric %} class="number"{% endif %}>{{ cell }}</td>
    {% endif %}
    {% endfor %}
  </tr>
  {% endfor %}
  </tbody>
</table></div>
"""

_GALLERY = """
<div class="gallery">
  {% for data, caption in photos %}
  <figure><img src="data:image/jpeg;base64,{{ data }}" alt="Bin photo. {{ caption }}" loading="lazy">
  <figcaption>{{ caption }}</figcaption></figure>
  {% endfor %}
</div>
"""

_ORIGIN_MARK = "<!-- its run -->"  # no text of a page can hold it, because texts are escaped

_ORIGIN = """
<nav class="origin" aria-label="Pages of this run">
<p>{% for name, place in origin.links %}{% if place %}<a href="{{ place }}">{{ name }}</a>
{% else %}<strong aria-current="page">{{ name }}</strong>
{% endif %}{% endfor %}</p>
<p>{{ origin.made }} by <code>{{ origin.command }}</code>, from {{ origin.data }}.</p>
</nav>
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --page: #fff; --text: #1c2128; --quiet: #5b6470; --line: #d8dde3; --tile: #f4f6f8;
  --link: #1a5fa8 }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171b; --text: #e6e9ed; --quiet: #9aa4b0; --line: #353b43; --tile: #1e2329; --link: #7db8ee } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 60rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem }
p { max-width: 44rem; margin: .5rem 0 }
.lead, figcaption, caption, .note, dt { color: var(--quiet) }
figure { margin: 1rem 0 }
figcaption, caption { font-size: .9rem; text-align: left; padding: .3rem 0 }
.plot svg { width: 100%; height: auto; display: block }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1.2rem 0 }
.numbers div { background: var(--tile); border-radius: .5rem; padding: .7rem .9rem }
.numbers dt { font-size: .85rem }
.numbers dd { margin: 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums }
.numbers dd.note { font-size: .8rem; font-weight: 400 }
.scroll { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
th[scope=row] { font-weight: 500 }
td.number { text-align: right }
.origin { border-bottom: 1px solid var(--line); padding-bottom: .6rem; margin-bottom: 1.6rem; color: var(--quiet) }
.origin p { max-width: none; margin: 0; font-size: .9rem; overflow-wrap: anywhere }
.origin p:first-child { font-size: 1rem; margin-bottom: .3rem }
.origin a, .origin strong { margin-right: 1.1rem; color: var(--text); white-space: nowrap }
a { color: var(--link) }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1rem }
.gallery figure { margin: 0 }
.gallery img { width: 100%; height: 11rem; object-fit: contain; background: var(--tile); border-radius: .4rem }
</style>
</head>
<body>
<main>
<!-- its run -->
<h1>{{ title }}</h1>
{% if lead %}<p class="lead">{{ lead }}</p>{% endif %}
{% for part in parts %}{{ part }}{% endfor %}
</main>
</body>
</html>
"""
