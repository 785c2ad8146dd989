"""A report as one HTML page, or as a folder of that page and each chart as SVG and, with the plots extra, as PNG.

Knows nothing of what is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from leanto.errors import OutputError
from leanto.report.chart import standalone, style
from leanto_edge.page import cards, document

_LAYOUT = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 0 2.4rem; }
.charts section { min-width: 0; }
tr > :first-child { text-align: left; }
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart: `name` is its file's, `about` says in a sentence how to read it."""

    name: str
    title: str
    about: str
    svg: str


@dataclass(frozen=True, slots=True)
class Report:
    """A title, figures in words, charts, and rows of a table whose first is its head."""

    title: str
    about: str
    cards: Sequence[tuple[str, str, str]]
    figures: Sequence[Figure]
    table: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()

    def html(self) -> str:
        """The page."""
        drawn = [
            f'<section><h2>{escape(one.title)}</h2><p>{escape(one.about)}</p><figure tabindex="0">{one.svg}</figure></section>'
            for one in self.figures
        ]
        notes = [f'<p class="warn">{escape(note)}</p>' for note in self.notes]
        parts = [f"<h1>{escape(self.title)}</h1>", f"<p>{escape(self.about)}</p>", *notes, cards(self.cards)]
        parts += ['<div class="charts">', *drawn, "</div>", _table(self.table)]
        return document(self.title, parts, style() + _LAYOUT)


def write(report: Report, path: str | Path) -> list[Path]:
    """To a file, the page; to any other path, a folder: the page, and each chart. Returns what was written; raises OutputError."""
    target = Path(path)
    try:
        if target.suffix.lower() in (".html", ".htm"):
            target.write_text(report.html(), encoding="utf-8")
            return [target]
        target.mkdir(parents=True, exist_ok=True)
        files = {"report.html": report.html().encode()}
        for figure in report.figures:
            files[f"{figure.name}.svg"] = standalone(figure.svg).encode()
            picture = png(figure.svg)
            if picture is not None:
                files[f"{figure.name}.png"] = picture
        for name, content in files.items():
            (target / name).write_bytes(content)
        return [target / name for name in files]
    except OSError as error:
        raise OutputError(f"{path}: the report cannot be written: {error.strerror or error}", path=str(path)) from None


def png(svg: str, zoom: int = 2) -> bytes | None:
    """A chart as a picture in light colours, twice its size; None without the plots extra."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        return None
    return bytes(svg_to_bytes(svg_string=standalone(svg, dark=False), zoom=zoom, background="#ffffff"))


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = []
    for name, *cells in rows[1:]:
        body.append(f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<h2>Figures</h2><table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
