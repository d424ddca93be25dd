"""How a report looks and moves: its style sheet, the script that draws its figures, and the colours of both."""

from __future__ import annotations

INK = "#1b1f24"
QUIET = "#5c6670"
LINE = "#d9dee3"
EMOTION_COLOURS = ("#8a929b", "#e69f00", "#0072b2", "#56b4e9", "#7b4fa3", "#009e73", "#d55e00")
"""One per class, in the order of the catalog: told apart also by colour-blind readers (after Okabe & Ito)."""
SERIES_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b4fa3", "#6b7280")
SHADES = ((0.0, "#f6f9fc"), (1.0, "#6fa8dc"))
"""Of heat maps, from 0 to 100 %: light enough for dark numbers everywhere, on paper too."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
html {{ scroll-behavior: smooth; scroll-padding-top: 1rem; }}
body {{ margin: 0; background: #fff; color: {INK}; font: 16px/1.55 {FONT}; }}
.layout {{ display: grid; grid-template-columns: 11.5rem minmax(0, 1fr); gap: 2.5rem; max-width: 92rem; margin: 0 auto;
  padding: 0 2rem 5rem; }}
nav {{ position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto; padding: 3rem 0 2rem;
  font-size: .875rem; }}
nav p {{ margin: 0 0 .6rem; color: {QUIET}; }}
nav a {{ display: block; padding: .22rem 0; color: {INK}; text-decoration: none; }}
nav a:hover, nav a:focus-visible {{ text-decoration: underline; }}
header {{ padding: 2.8rem 0 1rem; border-bottom: 1px solid {LINE}; }}
h1 {{ margin: 0 0 .5rem; font-size: 1.85rem; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }}
h2 {{ margin: 3.2rem 0 .6rem; font-size: 1.3rem; line-height: 1.3; }}
p {{ margin: .5rem 0; max-width: 46rem; }}
dl {{ display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1.2rem; margin: .8rem 0; }}
dt {{ color: {QUIET}; }} dd {{ margin: 0; overflow-wrap: anywhere; }}
figure {{ margin: 1.6rem 0 2rem; }}
figcaption, .caption {{ max-width: 50rem; color: {QUIET}; font-size: .875rem; line-height: 1.5; }}
figcaption {{ margin-top: .4rem; }} .caption {{ margin: 1.4rem 0 .5rem; }}
figcaption b, .caption b {{ color: {INK}; font-weight: 600; }}
.grid {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); gap: .5rem 1.5rem; }}
.panel {{ min-width: 0; }} .plot {{ width: 100%; }}
.heading {{ margin: .6rem 0 .2rem; font-size: .875rem; font-weight: 600; line-height: 1.35; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; font-size: .875rem; }}
.legend i {{ display: inline-block; width: .8rem; height: .8rem; margin-right: .45rem; border-radius: 50%;
  vertical-align: -.06rem; print-color-adjust: exact; }}
.scroll {{ overflow-x: auto; margin: 0 0 .4rem; }}
table {{ border-collapse: collapse; border-bottom: 1px solid {INK}; font-size: .8438rem; line-height: 1.4;
  font-variant-numeric: tabular-nums lining-nums; }}
th {{ border-top: 1px solid {INK}; border-bottom: 1px solid {INK}; font-weight: 600; vertical-align: bottom; }}
th, td {{ padding: .32rem .8rem .32rem 0; text-align: left; }}
td {{ vertical-align: top; border-bottom: 1px solid #eef0f2; }}
td.word {{ white-space: nowrap; }}
td.text {{ min-width: 7.5rem; overflow-wrap: anywhere; }}
td.long {{ min-width: 16rem; max-width: 30rem; overflow-wrap: anywhere; }}
th.n, td.n {{ text-align: right; padding-left: .9rem; padding-right: 0; }} td.n {{ white-space: nowrap; }}
.n + .word, .n + .text, .n + .long {{ padding-left: 1.4rem; }}
.note {{ color: {QUIET}; font-size: .875rem; }}
@media (max-width: 60rem) {{
  html {{ scroll-padding-top: 3.2rem; }}
  .layout {{ display: block; padding: 0 1.1rem 3rem; }}
  nav {{ z-index: 2; display: flex; gap: 1.1rem; margin: 0 -1.1rem; padding: .7rem 1.1rem; overflow-x: auto;
    white-space: nowrap; background: #fff; border-bottom: 1px solid {LINE}; }}
  nav p {{ display: none; }} nav a {{ padding: 0; }}
  header {{ padding-top: 1.6rem; }} h1 {{ font-size: 1.5rem; }}
}}
@media print {{
  @page {{ size: A4; margin: 15mm; }}
  body {{ font-size: 10pt; }} nav, .modebar {{ display: none !important; }}
  .layout {{ display: block; max-width: none; padding: 0; }}
  h2, .caption, .heading {{ break-after: avoid; }} .note {{ break-before: avoid; }}
  figure, .panel, tr {{ break-inside: avoid; }} .scroll {{ overflow: visible; }}
  table {{ font-size: 7.5pt; }} th, td {{ padding-right: .4rem; }} th.n, td.n {{ padding-left: .4rem; }}
  td.text, td.long {{ min-width: 0; }} .grid {{ grid-template-columns: 1fr 1fr; }}
}}
"""
"""Dark text on white, rules instead of boxes, numerals of one width; the links beside it become a bar on a phone."""

SCRIPT = """
(async () => {
  const plots = [...document.querySelectorAll('.plot')];
  const config = { displaylogo: false, responsive: true, plotlyServerURL: '',
    displayModeBar: matchMedia('(hover: hover)').matches ? 'hover' : false,
    modeBarButtons: [['toImage', 'zoom2d', 'pan2d', 'resetScale2d']] };
  for (const plot of plots) {
    const spec = JSON.parse(document.getElementById(plot.id + '-data').textContent);
    const toImageButtonOptions = { format: 'svg', filename: plot.id };
    await Plotly.newPlot(plot, spec.data, spec.layout, { ...config, toImageButtonOptions });
  }
  const paper = plot => ({ width: plot.closest('.grid') ? 325 : 670, 'font.size': 9 });
  const screen = { width: null, autosize: true, 'font.size': 12 };
  addEventListener('beforeprint', () => plots.forEach(plot => Plotly.relayout(plot, paper(plot))));
  addEventListener('afterprint', () => plots.forEach(plot => Plotly.relayout(plot, screen)));
})();
"""
"""Draws every figure from the JSON beside it; a printed page has its own width.

The buttons are named one by one: the library's own set has one that sends the figure's data to its maker's server.
"""
