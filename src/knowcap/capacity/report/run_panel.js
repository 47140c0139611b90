// Panel beside the figure of all models: a run with its settings, cost and loss curves.

const RATE_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];

/** Panel that shows a model; a model that was clicked stays until another is clicked. */
function runPanel(data) {
  const panel = document.getElementById("run-panel");
  let shown = null;
  let isKept = false;
  let lastScoring = 0;

  const draw = () => {
    const model = data.models[shown];
    const facts = {
      dataset: model.dataset,
      weights: model.weights,
      exposures: thousands(model.exposures),
      parameters: thousands(model.params),
      [`R (${data.scorings[lastScoring][0]})`]:
        digits(model.mean[lastScoring]) + (model.sd[lastScoring] === null ? "" : ` ± ${digits(model.sd[lastScoring], 2)}`),
      "R_max": digits(model.max_ratio),
      "learning rate": digits(model.lr) + (model.num_lr > 1 ? `, best of ${model.num_lr}` : ""),
      seeds: distinct(model.replicates.map(([seed]) => seed)).join(", "),
      cost: model.cost,
      run: model.run,
    };
    panel.innerHTML =
      `<h3>${escaped(model.model)}</h3><dl>` +
      Object.entries(facts).map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`).join("") +
      `</dl><div id="curve-plot"></div><p class="soft">Point at another model, or touch it; a click keeps it.</p>`;
    drawCurve(panel.querySelector("#curve-plot"), data.curves[model.run]);
  };

  return {
    show(index, keep, scoring) {
      if (isKept && !keep) return false;
      const isNew = index !== shown || scoring !== lastScoring;
      [shown, isKept, lastScoring] = [index, isKept || keep, scoring];
      if (isNew) draw();
      return true;
    },
    redraw() {
      if (shown !== null) draw();
    },
  };
}

/** Loss of every replicate of a run against steps, a colour for each learning rate. */
function drawCurve(plot, curve) {
  if (!curve) {
    plot.style.height = "auto";
    plot.innerHTML = '<p class="soft">The metrics of this run were not there when this page was made.</p>';
    return;
  }
  const rates = distinct(curve.replicates.map(([, rate]) => rate));
  const traces = curve.replicates.map(([seed, rate], index) => ({
    x: curve.iterations,
    y: curve.loss_nats[index],
    mode: "lines",
    line: { color: RATE_COLORS[rates.indexOf(rate) % RATE_COLORS.length], width: 1.2 },
    name: `lr ${digits(rate)}`,
    legendgroup: String(rate),
    showlegend: curve.replicates.findIndex(([, other]) => other === rate) === index,
    hovertemplate: `step %{x:,}: %{y:.3f}<br>seed ${seed}, lr ${digits(rate)}<extra></extra>`,
  }));
  const steps = curve.iterations;
  Plotly.react(
    plot,
    traces,
    layout({
      margin: { l: 10, r: 10, t: 10, b: 10 },
      showlegend: rates.length > 1,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      xaxis: axis("step", { type: "log", ...logTicks(steps[0], steps.at(-1)) }),
      yaxis: axis("loss [nats per token]", { rangemode: "tozero" }),
    }),
    { ...CONFIG, displayModeBar: false },
  );
}
