from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from leanto_edge.compress.report import MatrixReport, Quality, Report
from leanto_edge.compress.report_page import page

QUALITY = Quality(1000, 9.0, 9.5, (9.2, 9.9), 0.01, 0.2, 0.95, fit=True)


def matrix(name: str, **changed: Any) -> MatrixReport:
    fields: dict[str, Any] = {"kind": "trellis", "bits": 2, "rank": 0, "factor_bits": 16, "rows": 8, "cols": 8, "stored_bytes": 80}
    fields |= {"error": 0.01, "kl_share": 0.5, **changed}
    return MatrixReport(name, **fields)


def report(*matrices: MatrixReport, quality: Quality = QUALITY, name: str = "tiny") -> Report:
    return Report(name, "ab" * 32, 1000, 500, 2.5, quality, None, matrices, 12.0)


def parsed(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """Every tag of the page; each that is opened must be closed in its order."""
    tags: list[tuple[str, dict[str, str | None]]] = []
    left: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))
            if tag != "meta":
                left.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert left.pop() == tag

    Reader().feed(text)
    assert not left
    return tags


BOTH = (matrix("model.embed_tokens"), matrix("model.layers.3.mlp.up_proj", rank=8, factor_bits=4))


def test_the_page_is_whole_and_fetches_nothing() -> None:
    text = page(report(*BOTH).as_dict())
    tags = parsed(text)
    assert not [tag for tag, attributes in tags if tag in ("script", "link", "img", "iframe") or {"src", "href"} & attributes.keys()]
    assert not re.search(r"https?://|@import|url\(", text)
    assert sum(tag == "svg" for tag, _ in tags) == 4
    assert sum(tag == "tr" for tag, _ in tags) == 1 + len(BOTH)


def test_names_cannot_break_out_of_the_page() -> None:
    text = page(report(matrix("model.layers.0.<script>alert(1)</script>"), name='"><script>alert(2)</script>').as_dict())
    assert not [tag for tag, _ in parsed(text) if tag == "script"]


def test_without_measured_divergences_there_is_no_map_of_them() -> None:
    text = page(report(matrix("model.embed_tokens", kl_share=None)).as_dict())
    assert sum(tag == "svg" for tag, _ in parsed(text)) == 3


@pytest.mark.parametrize("fit", [True, False])
def test_an_unfit_model_is_called_so(fit: bool) -> None:
    quality = Quality(1000, 9.0, 95.0, (92.0, 99.0), 1.0, 2.0, 0.3, fit=fit)
    assert ("Unfit" in page(report(*BOTH, quality=quality).as_dict())) is not fit


def test_the_table_has_a_line_for_every_matrix() -> None:
    lines = report(*BOTH).table().splitlines()
    assert [line.split()[0] for line in lines[-2:]] == [found.name for found in BOTH]
    assert "2 bits trellis + rank 8 x4" in lines[-1]
    assert lines[-1].endswith("50.0 %")


def test_both_files_are_written(tmp_path: Path) -> None:
    report(*BOTH).write(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json"]
