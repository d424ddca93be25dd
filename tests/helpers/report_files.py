"""Reading a report back as a browser would: its tables, its figures, and what it refers to."""

import json
from html.parser import HTMLParser
from typing import Any


class Document(HTMLParser):
    """Tables as rows of texts, figures as plotly's JSON, and every attribute that could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title = ""
        self.tables: list[list[list[str]]] = []
        self.figures: list[dict[str, Any]] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.drawn: list[str] = []
        self.policy = ""
        self.style = ""
        self.text = ""
        self._open: list[str] = []
        self._json = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.append(tag)
        self._open.append(tag)
        self.references += [str(v) for k, v in attributes if k in ("src", "href", "action", "srcset", "data", "poster")]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(values["content"])
        if "main-svg" in str(values.get("class")).split():
            self.drawn.append(str(values.get("class")))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script" and values.get("type") == "application/json":
            self._open[-1] = "json"

    def handle_endtag(self, tag: str) -> None:
        last = self._open.pop() if self._open else ""
        while self._open and last not in (tag, "json"):  # elements without an end tag
            last = self._open.pop()
        if last == "json":
            self.figures.append(json.loads(self._json))
            self._json = ""

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "json":
            self._json += data
        elif inside == "title":
            self.title += data
        elif inside == "style":
            self.style += data
        elif inside in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if inside not in ("json", "script", "style"):
            self.text += data

    def rows(self, number: int) -> list[dict[str, str]]:
        """A table's rows by column, counted from 1 as in the report."""
        head, *body = self.tables[number - 1]
        return [dict(zip(head, row, strict=True)) for row in body]
