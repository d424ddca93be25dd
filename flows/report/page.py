"""One HTML file that needs no network: sections, numbered tables and figures; every text from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from merloco.flows.cli.console import cell_text
from merloco.flows.report.style import FONT, INK, LINE, SCRIPT, STYLE

WORD, LONG = 16, 40
"""Most characters of a cell that is never broken, and of one that needs no wide column."""
_NUMBER = re.compile(r"(-|[+\-−]?\d[\d.,]*)( ?%)?[↑↓]?( ?(±|–|/|\[|\().*)?$|leak$|$")
"""A number, also with something written beside it: `71.6`, `71.6 ± 0.4`, `70.1–73.0`, `71.6 (69.3)`, `71.6↑`, `3/5`."""


class Tabular(Protocol):
    """What a table needs to be shown: a title, columns, rows by column, and sentences below it."""

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def columns(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def rows(self) -> Sequence[Sequence[Any]]: ...  # noqa: D102

    @property
    def notes(self) -> Sequence[str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a report, as text or numbers; nothing of it is taken as HTML."""

    title: str
    columns: Sequence[str]
    records: Sequence[Mapping[str, Any]]
    """Column -> value; None and what is missing show as `-`."""
    notes: Sequence[str] = ()
    """Sentences below the table."""

    @property
    def rows(self) -> list[list[Any]]:
        """Values in the order of the columns."""
        return [[record.get(column) for column in self.columns] for record in self.records]


@dataclass(slots=True)
class Page:
    """A report in the making; tables and figures number themselves in the order in which they are added."""

    title: str
    _parts: list[str] = field(default_factory=list)
    _sections: list[tuple[str, str]] = field(default_factory=list)
    _tables: int = 0
    _figures: int = 0
    _plots: int = 0

    def facts(self, facts: Mapping[str, str]) -> None:
        """Add a list of names and values, for the head of the page."""
        items = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items())
        self._parts.append(f"<dl>{items}</dl>")

    def section(self, title: str) -> None:
        """Begin a section; the table of contents links to it."""
        anchor = re.sub(r"\W+", "-", title.lower()).strip("-")
        self._sections.append((anchor, title))
        self._parts.append(f'<h2 id="{anchor}">{escaped(title)}</h2>')

    def absent(self, title: str, why: str) -> None:
        """Begin a section that cannot be made and say why: a reader must not miss it without a word."""
        self.section(title)
        self.text(why)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{escaped(text)}</p>")

    def table(self, table: Tabular) -> None:
        """Add a table; columns of numbers are set to the right."""
        self._tables += 1
        cells = [[cell_text(value) for value in row] for row in table.rows]
        kinds = [_kind([line[i] for line in cells]) for i in range(len(table.columns))]
        head = "".join(
            f'<th scope="col" class="{kind}">{escaped(name)}</th>'
            for name, kind in zip(table.columns, kinds, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(f'<td class="{kind}">{escaped(v)}</td>' for v, kind in zip(line, kinds, strict=True))
            + "</tr>\n"
            for line in cells
        )
        name = f"table-{self._tables}"
        self._parts.append(
            f'<p class="caption" id="{name}"><b>Table {self._tables}.</b> {escaped(table.title)}</p>\n'
            f'<div class="scroll" tabindex="0"><table aria-labelledby="{name}">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
        )
        self._parts += [f'<p class="note">{escaped(note)}</p>' for note in table.notes]

    def figure(self, panels: Sequence[tuple[str, Any]], caption: str, legend: Mapping[str, str] | None = None) -> None:
        """Add plotly figures as one numbered figure: one over the whole width, several side by side.

        Args:
            panels: (heading, plotly figure); the heading may be empty.
            caption: What is seen, of how many rows and runs, and what is averaged.
            legend: Name -> colour, where it is the same for all panels.
        """
        self._figures += 1
        content = "\n".join(self._panel(title, figure) for title, figure in panels)
        if len(panels) > 1:
            content = f'<div class="grid">{content}</div>'
        if legend and len(legend) > 1:
            keys = "".join(
                f'<span><i style="background:{colour}"></i>{escaped(name)}</span>' for name, colour in legend.items()
            )
            content = f'<div class="legend">{keys}</div>{content}'
        label = f"<b>Figure {self._figures}.</b> {escaped(caption)}"
        self._parts.append(f"<figure>{content}<figcaption>{label}</figcaption></figure>")

    def _panel(self, title: str, figure: Any) -> str:
        self._plots += 1
        name = f"plot-{self._plots}"
        heading = f'<p class="heading">{escaped(title)}</p>' if title else ""
        height = figure.layout.height
        return (
            f'<div class="panel">{heading}<div class="plot" id="{name}" style="height:{height}px"></div>\n'
            f'<script type="application/json" id="{name}-data">{inert_json(figure.to_json())}</script></div>'
        )

    def html(self) -> str:
        """The whole file. Its policy forbids every request and every script but its own two."""
        from plotly.offline import get_plotlyjs

        library = get_plotlyjs()
        allowed = " ".join(_digest(script) for script in (library, SCRIPT))
        policy = (
            f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
            "base-uri 'none'; form-action 'none'"
        )
        links = "".join(f'<a href="#{anchor}">{escaped(title)}</a>' for anchor, title in self._sections)
        title, content = escaped(self.title), "\n".join(self._parts)
        return (
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n"
            f'<div class="layout">\n<nav aria-label="Contents"><p>Contents</p>{links}</nav>\n<main>\n'
            f"<header><h1>{title}</h1></header>\n"
            f'<noscript><p class="note">The figures need JavaScript; the tables do not.</p></noscript>\n'
            f"{content}\n</main>\n</div>\n<script>{library}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
        )


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def escaped(value: Any) -> str:
    """A value as text that HTML, and the markup that plotly reads in its texts, take literally."""
    return html.escape(str(value))


def inert_json(text: str) -> str:
    """JSON that cannot end the script element it stands in, whatever texts it holds."""
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _kind(cells: Sequence[str]) -> str:
    """How a column is set: `n` for numbers, `word`, `text` or `long` by its longest cell."""
    if cells and all(_NUMBER.match(cell) for cell in cells):
        return "n"
    longest = max(map(len, cells), default=0)
    return "word" if longest <= WORD else "text" if longest <= LONG else "long"


def styled(figure: Any, height: int, x: str | None = None, y: str | None = None) -> Any:
    """A plotly figure in the report's dress: no template, thin rules, room for its labels."""
    axis = {"gridcolor": "#eceff2", "linecolor": LINE, "zerolinecolor": LINE, "ticks": "outside", "tickcolor": LINE}
    font = {"family": FONT, "size": 12, "color": INK}
    figure.update_layout(
        template={},
        height=height,
        autosize=True,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font=font,
        hoverlabel={"font": font, "bgcolor": "white", "bordercolor": LINE},
        margin={"l": 10, "r": 10, "t": 12, "b": 10},
        legend={"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0, "xanchor": "left", "itemsizing": "constant"},
    )
    figure.update_xaxes(**axis, automargin=True, title={"text": x, "standoff": 8})
    figure.update_yaxes(**axis, automargin=True, title={"text": y, "standoff": 8})
    return figure
