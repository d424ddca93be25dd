// Draws every figure from the JSON beside it; a printed page has its own width.
// The buttons are named one by one: the library's own set has one that sends the figure's data to its maker's server.
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
