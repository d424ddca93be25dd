"""One HTML file that needs no network: sections, numbered tables and figures; every text from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from plotly.offline import get_plotlyjs

from merloco.flows.cli.console import cell_text
from merloco.flows.report import style
from merloco.flows.results.tables import ResultTable

FOLDER = Path(__file__).parent
WORD, LONG = 16, 40
"""Most characters of a cell that is never broken, and of one that needs no wide column."""
_NUMBER = re.compile(r"(-|[+\-−]?\d[\d.,]*)( ?%)?[↑↓]?( ?(±|–|/|\[|\().*)?$|leak$|$")
"""A number, also with something written beside it: `71.6`, `71.6 ± 0.4`, `70.1–73.0`, `71.6 (69.3)`, `71.6↑`, `3/5`."""


class MissingSectionError(Exception):
    """A section cannot be made; says why, so that a reader does not miss it."""


@dataclass(slots=True)
class Section:
    """A section as the template takes it; the table of contents links to its anchor."""

    title: str
    parts: list[tuple[str, Any]] = field(default_factory=list)
    """(`text`, sentence), (`table` or `figure`, arguments of the template's macro of that name)."""

    @property
    def anchor(self) -> str:
        """The title in lower case, words joined by `-`."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(slots=True)
class Page:
    """A report in the making; tables and figures are numbered in the order in which they are added."""

    title: str
    facts: Mapping[str, str]
    """Name -> value, for the head of the page."""
    sections: list[Section] = field(default_factory=list)
    _tables: int = 0
    _figures: int = 0
    _plots: int = 0

    def section(self, title: str) -> None:
        """Begin a section."""
        self.sections.append(Section(title))

    def text(self, text: str) -> None:
        """Add a paragraph to the last section."""
        self.sections[-1].parts.append(("text", text))

    def table(self, table: ResultTable) -> None:
        """Add a table to the last section; columns of numbers are set to the right."""
        self._tables += 1
        rows = [[cell_text(value) for value in row] for row in table.rows]
        columns = [(name, _kind([row[i] for row in rows])) for i, name in enumerate(table.columns)]
        values = {"number": self._tables, "title": table.title, "columns": columns, "rows": rows, "notes": table.notes}
        self.sections[-1].parts.append(("table", values))

    def figure(self, panels: Sequence[tuple[str, Any]], caption: str, legend: Mapping[str, str] | None = None) -> None:
        """Add plotly figures as one numbered figure: one over the whole width, several side by side.

        Args:
            panels: (heading, plotly figure); the heading may be empty.
            caption: What is seen, of how many rows and runs, and what is averaged.
            legend: Name -> colour, where it is the same for all panels.
        """
        self._figures += 1
        items = []
        for heading, figure in panels:
            self._plots += 1
            json = inert_json(figure.to_json())
            plot = {"id": f"plot-{self._plots}", "height": figure.layout.height, "json": json}
            items.append({"heading": heading, **plot})
        values = {"number": self._figures, "items": items, "caption": caption, "legend": legend or {}}
        self.sections[-1].parts.append(("figure", values))

    def html(self) -> str:
        """The whole file. Its policy forbids every request and every script but its own two."""
        scripts = get_plotlyjs(), (FOLDER / "script.js").read_text(encoding="utf-8")
        digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
        templates = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return templates.get_template("template.html.j2").render(
            page=self, style=style, scripts=scripts, digests=[f"'sha256-{digest}'" for digest in digests]
        )


def escaped(value: Any) -> str:
    """A value as text that the markup which plotly reads in its texts takes literally."""
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
    line = style.LINE
    axis = {"gridcolor": "#eceff2", "linecolor": line, "zerolinecolor": line, "ticks": "outside", "tickcolor": line}
    font = {"family": style.FONT, "size": 12, "color": style.INK}
    figure.update_layout(
        template={},
        height=height,
        autosize=True,
        paper_bgcolor="white",
        plot_bgcolor="white",
        font=font,
        hoverlabel={"font": font, "bgcolor": "white", "bordercolor": line},
        margin={"l": 10, "r": 10, "t": 12, "b": 10},
        legend={"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0, "xanchor": "left", "itemsizing": "constant"},
    )
    figure.update_xaxes(**axis, automargin=True, title={"text": x, "standoff": 8})
    figure.update_yaxes(**axis, automargin=True, title={"text": y, "standoff": 8})
    return figure
