// Figure of the quantities of the laws: intervals relative to the paper's values.

const LINE_PIXELS = 16;
const BAR_PIXELS = 20;
const GAP_PIXELS = 12;
const CHARACTER_PIXELS = 6.6;

/** Draw the intervals and connect the controls. */
function startIntervals(data) {
  const plot = document.getElementById("intervals-plot");
  if (!plot) return () => {};
  const form = plot.parentElement.querySelector("form");
  const titles = distinct(data.rows.map((row) => row.title));
  const options = [["", "all"], ...titles.map((title) => [title, title])];
  form.elements.law.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  const update = () => {
    const { law, secondary } = Object.fromEntries(new FormData(form));
    drawIntervals(plot, data, data.rows.filter((row) => (!law || row.title === law) && (secondary || row.primary)));
  };
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
  return update;
}

/** Draw rows below one another: a label, and below it the accepted range, interval and estimate. */
function drawIntervals(plot, data, rows) {
  const [low, high] = data.limits;
  const clip = (value) => Math.min(high, Math.max(low, value));
  const hasScales = distinct(data.rows.map((row) => row.scale)).length > 1;
  const colorOf = (verdict) => (verdict === "inconclusive" ? style("--soft") : data.colors[verdict]);
  const shapes = [];
  const annotations = [];
  const traces = [];
  let top = 0; // the vertical axis counts pixels
  for (const row of rows) {
    const label = wrapped(
      `${row.law}: ${row.quantity}${hasScales ? ` (${row.scale})` : ""}`,
      Math.floor(plot.clientWidth / CHARACTER_PIXELS),
    );
    const bar = top + LINE_PIXELS * label.split("<br>").length + 4;
    const middle = bar + BAR_PIXELS / 2;
    annotations.push({
      text: label, xref: "paper", x: 0, xanchor: "left", align: "left", y: bar, yanchor: "bottom", showarrow: false,
      font: { ...FONT, color: style(row.primary ? "--ink" : "--soft") }, bgcolor: style("--page"),
    });
    shapes.push({
      type: "rect", layer: "below", x0: clip(row.accepted_lower ?? low), x1: clip(row.accepted_upper ?? high),
      y0: bar, y1: bar + BAR_PIXELS, fillcolor: style("--mark"), line: { width: 0 },
    });
    traces.push(...intervalTraces(row, middle, clip, colorOf(row.verdict), Math.floor(plot.clientWidth / 8)));
    top = bar + BAR_PIXELS + GAP_PIXELS;
  }
  shapes.push({
    type: "line", layer: "below", x0: 1, x1: 1, y0: 0, y1: top, line: { color: style("--soft"), width: 1 },
  });
  for (const verdict of Object.keys(data.colors)) {
    if (rows.some((row) => row.verdict === verdict)) traces.push(legendTrace(verdict, colorOf(verdict)));
  }
  const height = top + 100;
  plot.style.height = `${height}px`;
  Plotly.react(
    plot,
    traces,
    layout({
      height,
      margin: { l: 0, r: 0, t: 50, b: 50, pad: 0 },
      showlegend: true,
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
      dragmode: false,
      xaxis: axis("measured / paper's value", {
        type: "log", range: data.limits.map(Math.log10), tickvals: data.ticks,
        ticktext: data.ticks.map((tick) => (data.limits.includes(tick) ? "" : String(tick))), fixedrange: true,
      }),
      yaxis: { range: [top, 0], visible: false, fixedrange: true },
      shapes,
      annotations,
    }),
    { ...CONFIG, displayModeBar: false },
  );
}

/** Lines of the leave-one-out range and the interval, and the marker of the estimate. */
function intervalTraces(row, y, clip, color, width) {
  const line = { y: [y, y], mode: "lines", hoverinfo: "skip", showlegend: false };
  const traces = [];
  if (row.leave_one_out_lower !== null) {
    traces.push({ ...line, x: [row.leave_one_out_lower, row.leave_one_out_upper].map(clip), line: { color, width: 1 } });
  }
  if (row.lower !== null && row.upper !== null) {
    traces.push({ ...line, x: [row.lower, row.upper].map(clip), line: { color, width: 3 } });
  }
  const shown = clip(row.estimate);
  traces.push({
    x: [shown],
    y: [y],
    mode: "markers",
    marker: {
      ...markerOf(row.verdict, color),
      symbol: row.estimate < shown ? "triangle-left" : row.estimate > shown ? "triangle-right" : "circle",
    },
    showlegend: false,
    cliponaxis: false,
    hovertemplate: `${intervalText(row, Math.min(64, width))}<extra></extra>`,
  });
  return traces;
}

/** Open markers are not evidence, as a precondition of the test fails. */
function markerOf(verdict, color) {
  const isEvidence = verdict !== "not testable here";
  return { size: 9, color: isEvidence ? color : style("--page"), line: { color, width: isEvidence ? 0 : 1.5 } };
}

function legendTrace(verdict, color) {
  return {
    x: [null], y: [null], name: verdict, mode: "lines+markers", line: { color, width: 3 }, marker: markerOf(verdict, color),
  };
}

function intervalText(row, width) {
  return [
    `<b>${escaped(row.verdict)}</b>`,
    wrapped(`measured ${row.measured}`, width),
    wrapped(`accepted ${row.accepted}`, width),
    wrapped(row.explanation, width),
  ].join("<br>");
}
