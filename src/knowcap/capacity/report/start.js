// Start of the interactive figures. Without them the page shows pictures and tables.

/** Decompress and run plotly.js. */
async function loadPlotly() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

async function start() {
  if (!("DecompressionStream" in window)) return; // browsers before 2023
  await loadPlotly();
  for (const each of document.querySelectorAll(".interactive")) each.hidden = false;
  for (const each of document.querySelectorAll(".replaced")) each.style.display = "none";
  const data = JSON.parse(document.getElementById("data").textContent);
  const redraw = [startExplorer(data.explorer), startIntervals(data.intervals)];
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw.forEach((draw) => draw()));
  document.documentElement.dataset.ready = "true";
}

// Paper has no lists to unfold. Those of runs and corpora stay folded, as they fill dozens of pages.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details:not(.long)")) each.open = true;
});

start();
