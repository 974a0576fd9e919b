// Draws the page's figures, in the colours of the reader's theme; what is hidden in one curve is hidden in all.
"use strict";

const figures = JSON.parse(document.getElementById("figures").textContent);
const buttons = [["zoom2d", "pan2d", "resetScale2d", "toImage"]];
const config = { responsive: true, displaylogo: false, modeBarButtons: buttons, plotlyServerURL: "" };

function coloured(value) {
  if (Array.isArray(value)) return value.map(coloured);
  if (value !== null && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each)]));
  if (typeof value !== "string" || !value.startsWith("var(")) return value;
  return getComputedStyle(document.documentElement).getPropertyValue(value.slice(4, -1)).trim();
}

function draw() {
  for (const [id, { data, layout }] of Object.entries(figures)) Plotly.react(id, coloured(data), coloured(layout), config);
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("beforeprint", draw);
addEventListener("afterprint", draw);

const curves = Object.keys(figures).filter((id) => id.startsWith("curve-"));
let following = false;
for (const id of curves)
  document.getElementById(id).on("plotly_restyle", async ([change, traces]) => {
    if (following || !("visible" in change)) return;
    following = true;
    for (const other of curves) if (other !== id) await Plotly.restyle(other, change, traces);
    following = false;
  });
