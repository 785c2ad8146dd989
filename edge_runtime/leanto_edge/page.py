"""One HTML page that stands alone: its style is in it, no script, nothing is fetched; in light and in dark.

Knows the look of a page and nothing of what it reports.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_STYLE = """
:root { color-scheme: light dark; }
:root { --ink: #1c2430; --soft: #5d6878; --paper: #ffffff; --line: #dfe4ea; --tint: 20, 92, 158; --warn: #a3320b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ecf1; --soft: #9aa6b5; --paper: #12161c; --line: #2b333d; --tint: 94, 170, 240; --warn: #ff9466; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
body { margin: 2.5rem auto; max-width: 62rem; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .3rem; }
p { color: var(--soft); margin: .2rem 0 .8rem; }
p.warn { color: var(--warn); border: 1px solid; padding: .6rem .9rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .7rem 2rem; margin: 1.6rem 0; }
dl div { border-top: 2px solid var(--line); padding: .5rem 0 0; }
dt, dd small { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-size: 1.25rem; }
dd small { display: block; }
dd, table { font-variant-numeric: tabular-nums; }
figure { margin: 0; overflow-x: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg text.axis { fill: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th { color: var(--soft); font-weight: 500; }
thead th { position: sticky; top: 0; background: var(--paper); }
tbody th { color: var(--ink); font-weight: 400; }
@media print { rect { print-color-adjust: exact; } }
"""


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """The page: `parts` are HTML, those that are empty left out; `style` goes on top of the common one."""
    body = "\n".join(part for part in parts if part)
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"{meta}<title>{escape(title)} · leanto</title><style>{_STYLE}{style}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def cards(rows: Iterable[tuple[str, str, str]]) -> str:
    """Figures with a name above and a remark below each, as plain text."""
    shown = (tuple(map(escape, row)) for row in rows)
    return "<dl>" + "".join(f"<div><dt>{dt}</dt><dd>{dd}<small>{small}</small></dd></div>" for dt, dd, small in shown) + "</dl>"
