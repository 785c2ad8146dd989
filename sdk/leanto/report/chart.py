"""Charts as SVG: lines and marks over two axes, and spreads in rows. Each stands alone, in light and in dark, without a script.

Knows nothing of what it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from leanto.report.scale import Scale

WIDTH, HEIGHT = 500, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 26, 14, 46
_ROW, _LEGEND, _CHAR = 34, 20, 6.6  # pixels: a row of `spreads`, a line of the legend, an average letter
_LIGHT = ("#145c9e", "#b4531b", "#2f7d4f", "#7a4fa3", "#6b6f76", "#a3320b")
_DARK = ("#6db3f2", "#f0a06a", "#74c796", "#c3a3e6", "#a5adb8", "#ff9466")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """Points joined by straight lines, or by `steps`; `dashed` for what is only compared with."""

    name: str
    points: Sequence[Point]
    dashed: bool = False
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """One point, with its interval in y, and a tooltip."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """The 10th, 25th, 50th, 75th and 90th percentile of something."""

    name: str
    quantiles: tuple[float, float, float, float, float]
    text: str


def plot(title: str, x: Scale, y: Scale, lines: Sequence[Line], marks: Sequence[Mark] = (), marked: str = "") -> str:
    """Lines and marks; `marked` is what the legend calls the marks."""
    names = [(f"s{i}", line.name, line.dashed) for i, line in enumerate(lines) if line.name]
    legend, top = _legend([*names, *([(f"s{len(lines)}", marked, None)] if marked else [])])
    frame = _Frame(x, y, top, HEIGHT)
    drawn = [legend, frame.axes()]
    drawn += [_path(frame, line, i) for i, line in enumerate(lines)]
    drawn += [_mark(frame, mark, len(lines)) for mark in marks]
    return _svg(title, HEIGHT, drawn)


def spreads(title: str, x: Scale, rows: Sequence[Spread]) -> str:
    """A row for each: a line from the 10th to the 90th percentile, a box between the quartiles, a stroke at the median."""
    left = min(220, round(18 + _CHAR * max(len(row.name) for row in rows)))
    height = _TOP + _BOTTOM + _ROW * len(rows)
    frame = _Frame(x, None, _TOP, height, left=left, right=96)
    key = "line: 10 to 90 %, box: the middle half, stroke and figure: the median"
    drawn = [frame.axes(), f'<text class="axis" x="{WIDTH / 2}" y="{height + 10}" text-anchor="middle">{key}</text>']
    for i, row in enumerate(rows):
        middle = _TOP + _ROW * (i + 0.5)
        low, lower, median, upper, high = map(frame.across, row.quantiles)
        drawn.append(f'<text x="{left - 10}" y="{middle + 4}" text-anchor="end">{escape(row.name)}</text>')
        drawn.append(f'<path class="line s{i % 6}" d="M{low:.1f} {middle}H{high:.1f}"/>')
        drawn.append(f'<rect class="box s{i % 6}" x="{lower:.1f}" y="{middle - 8}" width="{max(1.0, upper - lower):.1f}" height="16"/>')
        drawn.append(f'<path class="line thick s{i % 6}" d="M{median:.1f} {middle - 10}V{middle + 10}"/>')
        drawn.append(f'<text class="axis" x="{WIDTH - 88}" y="{middle + 4}">{escape(row.text)}</text>')
    return _svg(title, height + _LEGEND, drawn)


def style(*, dark: bool = True) -> str:
    """The rules that the charts need, with their colours in the dark or, for a picture, without."""
    rules = """
svg.chart { max-width: 100%; height: auto; }
svg.chart text { font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg.chart .line { fill: none; stroke-width: 2; }
svg.chart .thick { stroke-width: 3; }
svg.chart .dashed { stroke-dasharray: 5 4; stroke-width: 1.5; }
svg.chart .grid { fill: none; stroke-width: 1; }
svg.chart .box { fill-opacity: .25; stroke-width: 1; }
"""
    light = rules + _colours(_LIGHT, "#1c2430", "#5d6878", "#dfe4ea")
    return light + (f"@media (prefers-color-scheme: dark) {{{_colours(_DARK, '#e8ecf1', '#9aa6b5', '#2b333d')}}}\n" if dark else "")


def standalone(svg: str, *, dark: bool = True) -> str:
    """A chart as a file of its own."""
    paper = "svg.chart { background: #ffffff; }"
    night = "@media (prefers-color-scheme: dark) { svg.chart { background: #12161c; } }" if dark else ""
    return svg.replace("</title>", f"</title><style>{style(dark=dark)}{paper}{night}</style>", 1)


def _colours(series: tuple[str, ...], ink: str, soft: str, grid: str) -> str:
    rules = [f"svg.chart text {{ fill: {ink}; }}", f"svg.chart text.axis {{ fill: {soft}; }}", f"svg.chart .grid {{ stroke: {grid}; }}"]
    for i, colour in enumerate(series):
        rules += [f"svg.chart .s{i} {{ stroke: {colour}; }}", f"svg.chart .box.s{i}, svg.chart .dot.s{i} {{ fill: {colour}; }}"]
    return "\n".join(rules) + "\n"


@dataclass(frozen=True, slots=True)
class _Frame:
    """The rectangle of the axes within the picture; without `y` only the lower axis is drawn."""

    x: Scale
    y: Scale | None
    top: int
    height: int
    left: int = _LEFT
    right: int = _RIGHT

    def across(self, value: float) -> float:
        return self.left + self.x.at(value) * (WIDTH - self.left - self.right)

    def up(self, value: float) -> float:
        assert self.y is not None
        return self.height - _BOTTOM - self.y.at(value) * (self.height - _BOTTOM - self.top)

    def axes(self) -> str:
        end, bottom = WIDTH - self.right, self.height - _BOTTOM
        drawn = []
        for value, text in self.x.ticks():
            at = f"{self.across(value):.1f}"
            drawn.append(f'<path class="grid" d="M{at} {self.top}V{bottom}"/>')
            drawn.append(f'<text class="axis" x="{at}" y="{bottom + 17}" text-anchor="middle">{text}</text>')
        drawn.append(f'<text x="{(self.left + end) / 2}" y="{self.height - 8}" text-anchor="middle">{escape(self.x.label)}</text>')
        if self.y is None:
            return "".join(drawn)
        for value, text in self.y.ticks():
            height = self.up(value)
            drawn.append(f'<path class="grid" d="M{self.left} {height:.1f}H{end}"/>')
            drawn.append(f'<text class="axis" x="{self.left - 8}" y="{height + 4:.1f}" text-anchor="end">{text}</text>')
        middle = (self.top + bottom) / 2
        turned = f'x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})"'
        return "".join(drawn) + f"<text {turned}>{escape(self.y.label)}</text>"


def _legend(names: Sequence[tuple[str, str, bool | None]]) -> tuple[str, int]:
    """The legend over the axes, in as many lines as it needs, and where the axes begin."""
    drawn, x, y = [], float(_LEFT), _TOP
    for kind, name, dashed in names:
        wide = 34 + _CHAR * len(name)
        if x + wide > WIDTH - _RIGHT and x > _LEFT:
            x, y = float(_LEFT), y + _LEGEND
        sign = f'<circle class="dot {kind}" cx="{x + 10:.1f}" cy="{y}" r="4"/>'
        if dashed is not None:
            sign = f'<path class="line {"dashed " if dashed else ""}{kind}" d="M{x:.1f} {y}h20"/>'
        drawn.append(f'{sign}<text x="{x + 26:.1f}" y="{y + 4}">{escape(name)}</text>')
        x += wide + 14
    return "".join(drawn), y + (18 if names else 0)


def _path(frame: _Frame, line: Line, number: int) -> str:
    at = [(frame.across(x), frame.up(y)) for x, y in line.points]
    parts = [f"M{at[0][0]:.1f} {at[0][1]:.1f}"]
    parts += [f"H{x:.1f}V{y:.1f}" if line.steps else f"L{x:.1f} {y:.1f}" for x, y in at[1:]]
    return f'<path class="line {"dashed " if line.dashed else ""}s{number % 6}" d="{"".join(parts)}"/>'


def _mark(frame: _Frame, mark: Mark, number: int) -> str:
    x, y = frame.across(mark.x), frame.up(mark.y)
    tip = f"<title>{escape(mark.tip)}</title>" if mark.tip else ""
    drawn = f'<circle class="dot s{number % 6}" cx="{x:.1f}" cy="{y:.1f}" r="4">{tip}</circle>'
    if mark.low is not None and mark.high is not None:
        drawn += f'<path class="line s{number % 6}" d="M{x:.1f} {frame.up(mark.low):.1f}V{frame.up(mark.high):.1f}"/>'
    return drawn


def _svg(title: str, height: int, drawn: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    opened = f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'
    return f"{opened}<title>{escape(title)}</title>{''.join(drawn)}</svg>"
