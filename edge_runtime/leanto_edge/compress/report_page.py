"""The report of a compression as one HTML page: the figures, maps of bits, error and divergence over the layers, every matrix.

Stands alone: styles and drawings are in it, no script, nothing is fetched. Takes the JSON of the report, knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from leanto_edge.page import cards, document

Matrix = Mapping[str, Any]

_CELL, _HEIGHT, _LABEL = 46, 26, 128  # pixels
_STYLE = """
.maps { display: flex; flex-wrap: wrap; column-gap: 3rem; }
.maps section { min-width: 0; max-width: 100%; }
.maps p { max-width: 26rem; }
tr > :nth-child(-n+2) { text-align: left; }
"""


def page(report: Mapping[str, Any]) -> str:
    """The page of `Report.as_dict()`."""
    name, matrices = escape(report["name"]), report["matrices"]
    parts = [
        f"<h1>{name}</h1>",
        f"<p>compressed by leanto, build {escape(report['build_hash'][:16])}…, in {report['seconds']:,.0f} s</p>",
        "" if report["quality"]["fit"] else _WARNING,
        _figures(report),
    ]
    parts += ['<div class="maps">', *_maps(matrices), "</div>", _table(matrices)]
    return document(report["name"], parts, _STYLE)


def _maps(matrices: Sequence[Matrix]) -> Iterator[str]:
    """What each matrix takes, how far it is off and what that does to the model; the last only where it was measured."""
    total = sum(matrix["stored_bytes"] for matrix in matrices) or 1
    bits: Callable[[Matrix], float] = lambda m: min(m["bits"], 8) / 8  # noqa: E731
    yield _map("Bits of the codes", "A + marks a low-rank term on top.", matrices, _bits, bits)
    size: Callable[[Matrix], str] = lambda m: f"{100 * m['stored_bytes'] / total:.1f}"  # noqa: E731
    yield _map("Share of the bytes", "In per cent of all matrices.", matrices, size, _scaled(matrices, "stored_bytes"))
    error: Callable[[Matrix], str] = lambda m: f"{100 * m['error']:.2g}"  # noqa: E731
    yield _map("Error", "tr(E H Eᵀ) / tr(W H Wᵀ), in per cent.", matrices, error, _scaled(matrices, "error"))
    if all(matrix["kl_share"] is not None for matrix in matrices):
        about = "KL from the teacher that each causes, as expected before recovery, in per cent."
        share: Callable[[Matrix], str] = lambda m: f"{100 * m['kl_share']:.1f}"  # noqa: E731
        yield _map("Share of the divergence", about, matrices, share, _scaled(matrices, "kl_share"))


_WARNING = '<p class="warn">Unfit: this model differs from its teacher in most words. leanto does not trust its confidence.</p>'


def _figures(report: Mapping[str, Any]) -> str:
    quality, (low, high) = report["quality"], report["quality"]["perplexity_interval"]
    before, after = quality["perplexity_before"], quality["perplexity_after"]
    untuned = f"{report['untuned']['kl_mean']:.4f} before recovery" if report["untuned"] else "nats per token, mean"
    rows = [
        ("Stored", f"{report['stored_bytes']:,} B", f"{report['parameters']:,} parameters"),
        ("Bits per weight", f"{report['bits_per_weight']:.2f}", "whole weight file, everything counted"),
        ("KL from the teacher", f"{quality['kl_mean']:.4f}", f"{untuned}; 99th percentile {quality['kl_p99']:.3f}"),
        ("Same likeliest token", f"{100 * quality['top1_agreement']:.1f} %", f"of {quality['tokens']:,} held-out tokens"),
        ("Perplexity", f"{after:,.3f}", f"95 %: {low:,.3f} to {high:,.3f}"),
        ("Perplexity of the teacher", f"{before:,.3f}", f"{100 * (after / before - 1):+.2f} %"),
    ]
    return cards(rows)


def _map(title: str, about: str, matrices: Sequence[Matrix], text: Callable[[Matrix], str], depth: Callable[[Matrix], float]) -> str:
    """A grid: layers across, kinds of matrices down; the tables that belong to no layer in the first column. `depth` in [0, 1]."""
    cells = {_place(matrix["name"]): matrix for matrix in matrices}
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = 1 + max(column for _, column in cells)
    width, height = _LABEL + columns * _CELL, (len(rows) + 1) * _HEIGHT
    drawn = [f'<text class="axis" x="{_LABEL - 10}" y="{_HEIGHT - 9}" text-anchor="end">layer</text>'] if columns > 1 else []
    drawn += [
        f'<text class="axis" x="{_LABEL + (column + 0.5) * _CELL}" y="{_HEIGHT - 9}" text-anchor="middle">{column}</text>'
        for column in range(columns)
    ]
    for at, row in enumerate(rows):
        top = (at + 1) * _HEIGHT
        drawn.append(f'<text x="{_LABEL - 10}" y="{top + 17}" text-anchor="end">{escape(row)}</text>')
        for column in range(columns):
            matrix = cells.get((row, column))
            if matrix is None:
                continue
            left, alpha = _LABEL + column * _CELL, 0.06 + 0.6 * min(max(depth(matrix), 0.0), 1.0)
            drawn.append(
                f'<rect x="{left + 1}" y="{top + 1}" width="{_CELL - 2}" height="{_HEIGHT - 2}"'
                f' style="fill: rgba(var(--tint), {alpha:.2f})">'
                f"<title>{escape(matrix['name'])}</title></rect>"
                f'<text x="{left + _CELL / 2}" y="{top + 17}" text-anchor="middle">{escape(text(matrix))}</text>'
            )
    drawing = f'<svg width="{width}" height="{height}" role="img" aria-label="{escape(title)} by matrix and layer">{"".join(drawn)}</svg>'
    figure = f'<figure tabindex="0" aria-label="{escape(title)}">{drawing}</figure>'  # can be scrolled by keys
    return f"<section><h2>{escape(title)}</h2><p>{escape(about)}</p>{figure}</section>"


def _table(matrices: Sequence[Matrix]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Matrix", "Stored as", "Size", "Bytes", "Error", "Of KL"))
    rows = []
    for matrix in matrices:
        kind = f"{matrix['kind']} {_bits(matrix)}" + (f" (rank {matrix['rank']}, {matrix['factor_bits']} bits)" if matrix["rank"] else "")
        share = "–" if matrix["kl_share"] is None else f"{100 * matrix['kl_share']:.1f} %"
        size = f"{matrix['rows']}×{matrix['cols']}"
        cells = (escape(kind), size, f"{matrix['stored_bytes']:,}", f"{matrix['error']:.5f}", share)
        rows.append(f'<tr><th scope="row">{escape(matrix["name"])}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<h2>Every matrix</h2><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _bits(matrix: Matrix) -> str:
    return f"{matrix['bits']}+" if matrix["rank"] else str(matrix["bits"])


def _place(module: str) -> tuple[str, int]:
    """Row and column of a matrix: model.layers.3.mlp.up_proj is up_proj in column 3."""
    parts = module.split(".")
    return (parts[-1], int(parts[2])) if parts[1:2] == ["layers"] else (parts[-1], 0)


def _scaled(matrices: Sequence[Matrix], field: str) -> Callable[[Matrix], float]:
    largest = max(matrix[field] for matrix in matrices) or 1.0
    return lambda matrix: float(matrix[field] / largest)
