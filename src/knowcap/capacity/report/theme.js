"use strict";

// Colours and layout that all interactive figures share.

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const FONT = { family: "system-ui, sans-serif", size: 12 };

const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  toImageButtonOptions: { format: "svg" },
};

/** Colour of a group; black is the colour of the text, which is light on a dark page. */
const visible = (color) => (color === "#000000" ? style("--ink") : color);

/** Layout with the colours of the page, to which the parts given are added. */
function layout(parts) {
  return {
    font: { ...FONT, color: style("--ink") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hovermode: "closest",
    hoverlabel: {
      align: "left",
      bgcolor: style("--wash"),
      bordercolor: style("--line"),
      font: { ...FONT, color: style("--ink") },
    },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: style("--soft"), activecolor: style("--ink") },
    ...parts,
  };
}

/** Axis with the colours of the page, to which the parts given are added. */
function axis(title, parts) {
  return {
    title: { text: title, standoff: 8 },
    gridcolor: style("--line"),
    linecolor: style("--soft"),
    tickcolor: style("--soft"),
    ticks: "outside",
    showline: true,
    zeroline: false,
    automargin: true,
    ...parts,
  };
}

/** Ticks 1, 2, 5, ... or powers of ten of a logarithmic axis, with k, M and G for thousands. */
function logTicks(low, high) {
  const steps = high / low < 200 ? [1, 2, 5] : [1];
  const values = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const step of steps) {
      const value = step * 10 ** power;
      if (value >= low && value <= high) values.push(value);
    }
  }
  return { tickvals: values, ticktext: values.map(prefixed) };
}

/** Number with k, M or G, such as 20k. */
function prefixed(value) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  }
  return String(Number(value.toPrecision(3)));
}

const digits = (value, count = 3) => (value === null ? "–" : Number(value.toPrecision(count)).toString());

const thousands = (value) => value.toLocaleString("en-US");

/** Text for HTML and for the labels of Plotly, which read some tags. */
const escaped = (text) =>
  String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** Lines of text with at most so many characters, joined by line breaks. */
function wrapped(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line && line.length + word.length + 1 > width) lines.push(word);
    else lines[lines.length - 1] = line ? `${line} ${word}` : word;
  }
  return lines.map(escaped).join("<br>");
}
