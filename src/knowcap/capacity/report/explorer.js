// Figure of all models: filters, colours, and lines of constant bits per parameter.

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];
const SIGNS = ["●", "■", "◆", "▲", "▼", "✚", "✖", "★"]; // the symbols in text
const MIN_SPAN = 10; // both logarithmic axes span at least this factor, so that noise stays small

/** Draw the figure of all models and connect its controls, the table of models and the panel. */
function startExplorer(data) {
  const root = document.getElementById("explorer");
  const form = root.querySelector("form");
  const plot = document.getElementById("explorer-plot");
  const panel = runPanel(data);
  const rows = [...document.querySelectorAll("tr[data-model]")];
  const exposures = distinct(data.models.map((model) => model.exposures)).sort((a, b) => b - a);

  fillControls(form, data, exposures);
  const update = () => {
    const choice = choices(form);
    const shown = data.models.map((model) => isChosen(model, choice));
    drawModels(plot, data, shown, choice, exposures);
    const number = shown.filter(Boolean).length;
    const used = exposures.filter((each) => data.models.some((model, i) => shown[i] && model.exposures === each));
    const signs = used.map((each) => `${SIGNS[exposures.indexOf(each) % SIGNS.length]} ${thousands(each)}`).join(", ");
    document.getElementById("explorer-count").textContent =
      `${number} of ${data.models.length} models, here and in the table below.` +
      (used.length > 1 ? ` Exposures: ${signs}.` : "") +
      (choice.lines ? paperText(data.paper_lines.filter(([, each]) => used.includes(each))) : "");
    for (const row of rows) row.hidden = !shown[row.dataset.model];
    for (const list of document.querySelectorAll("details.models")) {
      const listed = [...list.querySelectorAll("tr[data-model]")];
      list.firstElementChild.textContent = `${listed.filter((row) => !row.hidden).length} of ${listed.length} models`;
    }
  };
  form.addEventListener("change", (event) => {
    if (event.target.name === "law") chooseGrouping(form, data);
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());

  const choose = (index, isKept) => {
    if (!panel.show(index, isKept, choices(form).scoring)) return;
    for (const row of rows) row.classList.toggle("chosen", Number(row.dataset.model) === index);
  };
  update();
  choose(indexOfLargest(data.models), false);
  plot.on("plotly_hover", (event) => choose(modelOf(event), false));
  plot.on("plotly_click", (event) => choose(modelOf(event), true));
  for (const row of rows) {
    row.tabIndex = 0;
    const show = () => {
      choose(Number(row.dataset.model), true);
      root.scrollIntoView({ behavior: "smooth" });
    };
    row.addEventListener("click", show);
    row.addEventListener("keydown", (event) => event.key === "Enter" && show());
  }
  for (const link of document.querySelectorAll("a[data-law]")) {
    link.addEventListener("click", () => {
      form.elements.law.value = link.dataset.law;
      form.elements.law.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }
  return () => {
    update();
    panel.redraw();
  };
}

/** Sentence on the lines, such as `Dashed: R in the paper, 2 after 1,000 exposures and 1 after 100.` */
function paperText(lines) {
  const texts = lines.map(([ratio, each], index) => `${ratio} after ${thousands(each)}${index ? "" : " exposures"}`);
  return texts.length ? ` Dashed: R in the paper, ${texts.join(" and ")}.` : "";
}

/** Index of the model with the largest R. */
function indexOfLargest(models) {
  const ratios = models.map((model) => model.mean[0]);
  return ratios.indexOf(Math.max(...ratios));
}

const distinct = (values) => [...new Set(values)];

const modelOf = (event) => event.points[0].customdata;

/** Fill the lists of choices; a list with one choice is left out. */
function fillControls(form, data, exposures) {
  const lists = {
    law: data.laws.map(([number, title]) => [number, `${number}. ${title}`]),
    scale: data.scales.map((name) => [name, name]),
    architecture: distinct(data.models.map((model) => model.architecture)).map((name) => [name, name]),
    exposures: exposures.map((number) => [number, thousands(number)]),
    weights: distinct(data.models.map((model) => model.weights)).map((name) => [name, name]),
  };
  for (const [name, options] of Object.entries(lists)) {
    const select = form.elements[name];
    select.replaceChildren(...[["", "all"], ...options].map(([value, text]) => new Option(text, value)));
    select.parentElement.hidden = options.length < 2;
  }
  const groupings = Object.keys(data.groupings);
  form.elements.grouping.replaceChildren(...groupings.map((name) => new Option(name, name)));
  form.elements.grouping.parentElement.hidden = groupings.length < 2;
  const fieldset = form.querySelector("fieldset");
  data.scorings.forEach(([name, explanation], index) => {
    const label = document.createElement("label");
    label.title = explanation;
    label.innerHTML = `<input type="radio" name="scoring" value="${index}"${index ? "" : " checked"}> ${escaped(name)}`;
    fieldset.append(label);
  });
}

/** Colour what the chosen law compares, if the study varies it. */
function chooseGrouping(form, data) {
  const name = data.grouping_of_law[form.elements.law.value] ?? "exposures";
  if (name in data.groupings) form.elements.grouping.value = name;
}

function choices(form) {
  const values = Object.fromEntries(new FormData(form));
  return { ...values, scoring: Number(values.scoring), lines: "lines" in values, replicates: "replicates" in values };
}

const isChosen = (model, choice) =>
  (!choice.law || model.laws.includes(Number(choice.law))) &&
  (!choice.scale || model.scales.includes(choice.scale)) &&
  (!choice.architecture || model.architecture === choice.architecture) &&
  (!choice.exposures || model.exposures === Number(choice.exposures)) &&
  (!choice.weights || model.weights === choice.weights);

/** Draw the models shown, with a colour for each group and a symbol for each number of exposures. */
function drawModels(plot, data, shown, choice, exposures) {
  const isBits = choice.axis === "bits";
  const factor = (model) => (isBits ? model.params : 1);
  const indices = data.models.map((_, index) => index).filter((index) => shown[index]);
  const grouping = data.groupings[choice.grouping];
  const symbols = Object.fromEntries(exposures.map((number, index) => [number, SYMBOLS[index % SYMBOLS.length]]));
  const isNarrow = plot.clientWidth < 560;
  const groups = distinct(indices.map((index) => grouping.of[index])).sort((a, b) => a - b);
  const traces = [];
  groups.forEach((group, position) => {
    const label = grouping.labels[group];
    const members = indices.filter((index) => grouping.of[index] === group);
    // Few groups have distinct colours, many a sequence of colours.
    const color = visible(groups.length > data.palette.length ? grouping.colors[group] : data.palette[position]);
    const models = members.map((index) => data.models[index]);
    if (choice.replicates) traces.push(replicateTrace(data, members, choice.scoring, factor, color, isNarrow));
    traces.push({
      name: label,
      legendgroup: label,
      x: models.map((model) => model.params),
      y: models.map((model) => model.mean[choice.scoring] * factor(model)),
      error_y: {
        array: models.map((model) => (model.sd[choice.scoring] ?? 0) * factor(model)),
        color,
        thickness: 1,
        width: 2,
      },
      customdata: members,
      mode: "markers",
      marker: { color, size: 9, symbol: models.map((m) => symbols[m.exposures]), line: { width: 1, color: style("--page") } },
      text: models.map((model) => hoverText(model, choice.scoring, isNarrow)),
      hovertemplate: "%{text}<extra></extra>",
    });
  });
  const models = indices.map((index) => data.models[index]);
  const paperLines = data.paper_lines.filter(
    ([, number]) => choice.lines && models.some((model) => model.exposures === number),
  );
  const limits = axisLimits(models, choice, isBits, paperLines);
  const { lines, annotations } = ratioLines(paperLines, limits, isBits);
  Plotly.react(
    plot,
    [...lines, ...traces],
    layout({
      margin: { l: 10, r: choice.lines ? 46 : 10, t: 28, b: 10 },
      showlegend: true,
      legend: isNarrow ? { orientation: "h", x: 0, y: -0.2, yanchor: "top" } : { x: choice.lines ? 1.1 : 1.02, y: 1, yanchor: "top" },
      uirevision: JSON.stringify([choice.axis, indices]),
      xaxis: axis("parameters P", { type: "log", range: limits.x.map(Math.log10), ...logTicks(...limits.x) }),
      yaxis: isBits
        ? axis("stored knowledge [bit]", { type: "log", range: limits.y.map(Math.log10), ...logTicks(...limits.y) })
        : axis("capacity ratio R [bit/parameter]", { range: limits.y }),
      annotations,
    }),
    CONFIG,
  );
}

/** Every seed and learning rate of some models as small markers. */
function replicateTrace(data, members, scoring, factor, color, isNarrow) {
  const points = members.flatMap((index) => data.models[index].replicates.map((replicate) => [index, replicate]));
  return {
    x: points.map(([index]) => data.models[index].params),
    y: points.map(([index, replicate]) => replicate[2 + scoring] * factor(data.models[index])),
    customdata: points.map(([index]) => index),
    text: points.map(([index, replicate]) => hoverText(data.models[index], scoring, isNarrow, replicate)),
    hovertemplate: "%{text}<extra></extra>",
    mode: "markers",
    marker: { color, size: 4, opacity: 0.55 },
    showlegend: false,
    type: points.length > 4000 ? "scattergl" : "scatter", // SVG is slow with thousands of markers
  };
}

/** Short text beside a marker; the panel has the rest. */
function hoverText(model, scoring, isNarrow, replicate) {
  const spread = model.sd[scoring] === null ? "" : ` ± ${digits(model.sd[scoring], 2)}`;
  const ratio = replicate ? digits(replicate[2 + scoring]) : digits(model.mean[scoring]) + spread;
  if (isNarrow) return `${escaped(model.model)}<br>R = ${ratio}`;
  const seeds = replicate ? `seed ${replicate[0]}` : `${model.num_seeds} seed${model.num_seeds === 1 ? "" : "s"}`;
  const rate = digits(replicate ? replicate[1] : model.lr);
  return [
    `<b>${escaped(model.model)}</b> on ${escaped(model.dataset)}`,
    `R = ${ratio}, ${seeds}, learning rate ${rate}`,
    `${thousands(model.exposures)} exposures, ${escaped(model.weights)}`,
    escaped(model.run),
  ].join("<br>");
}

/** Limits of both axes that include all models; R starts at zero. */
function axisLimits(models, choice, isBits, paperLines) {
  const params = models.map((model) => model.params);
  const x = widened(Math.min(...params) / 1.3, Math.max(...params) * 1.3);
  const column = 2 + choice.scoring;
  const values = models.flatMap((model) =>
    choice.replicates
      ? model.replicates.map((replicate) => replicate[column] * (isBits ? model.params : 1))
      : [(model.mean[choice.scoring] + (model.sd[choice.scoring] ?? 0)) * (isBits ? model.params : 1),
         (model.mean[choice.scoring] - (model.sd[choice.scoring] ?? 0)) * (isBits ? model.params : 1)],
  );
  if (!models.length) return { x: [1, 10], y: isBits ? [1, 10] : [0, 2] };
  if (!isBits) {
    const low = Math.min(0, ...values);
    const high = Math.max(...values, ...paperLines.map(([ratio]) => ratio));
    return { x, y: [low && low - 0.05 * (high - low), high + 0.08 * (high - low)] };
  }
  const positive = values.filter((value) => value > 0);
  if (!positive.length) return { x, y: [1, 10] };
  return { x, y: widened(Math.min(...positive) / 1.4, Math.max(...positive) * 1.4) };
}

/** Logarithmic limits that span at least MIN_SPAN, with the same middle. */
function widened(low, high) {
  const missing = Math.sqrt(Math.max(1, MIN_SPAN / (high / low)));
  return [low / missing, high * missing];
}

/** Lines of the bits per parameter that the paper finds, with labels outside of the axes. */
function ratioLines(paperLines, { x, y }, isBits) {
  const lines = [];
  const annotations = [];
  for (const [ratio] of paperLines) {
    const start = isBits ? Math.max(x[0], y[0] / ratio) : x[0];
    const end = isBits ? Math.min(x[1], y[1] / ratio) : x[1];
    if (end <= start) continue;
    const at = (value) => (isBits ? ratio * value : ratio);
    const isAtRight = end === x[1];
    lines.push({
      x: [start, end], y: [start, end].map(at), mode: "lines", line: { color: style("--soft"), width: 1.5, dash: "dash" },
      hoverinfo: "skip", showlegend: false,
    });
    annotations.push({
      text: `R = ${ratio}`, x: Math.log10(end), y: isBits ? Math.log10(at(end)) : ratio, showarrow: false,
      xanchor: isAtRight ? "left" : "center", yanchor: isAtRight ? "middle" : "bottom", font: { ...FONT, color: style("--soft") },
    });
  }
  return { lines, annotations };
}
