"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const root = document.documentElement;

// Colours are written var(--name) in the figures, so that one figure serves both themes.
function resolve(item, style) {
  if (typeof item === "string") {
    if (item === "heat") return [0, 1, 2, 3].map((i) => [i / 3, style.getPropertyValue(`--heat-${i}`).trim()]);
    const name = /^var\((--[\w-]+)\)$/.exec(item);
    return name ? style.getPropertyValue(name[1]).trim() : item;
  }
  if (Array.isArray(item)) return item.length > 64 ? item : item.map((entry) => resolve(entry, style));
  if (item && typeof item === "object")
    return Object.fromEntries(Object.entries(item).map(([key, value]) => [key, resolve(value, style)]));
  return item;
}

function layoutOf(figure, style, log) {
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: color("--line"), linecolor: color("--line"), zeroline: false, ticks: "", automargin: true };
  const layout = resolve(figure.layout, style);
  const title = layout.xaxis.title;
  return {
    height: 270, hovermode: "x", ...layout,
    margin: { l: 48, r: 12, t: layout.annotations.length ? 26 : 10, b: 38, ...layout.margin },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("--soft") },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
    hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--text") } },
    xaxis: { ...axis, showgrid: false, ...layout.xaxis, title: { ...title, standoff: 8 } },
    yaxis: { ...axis, ...layout.yaxis, ...(log ? { type: "log", rangemode: "normal", autorange: true } : {}) },
  };
}

function draw(element) {
  const style = getComputedStyle(root);
  const figure = figures[element.id];
  const layout = layoutOf(figure, style, element.dataset.log === "true");
  if (layout.showlegend) {
    // The names of stages stand right above the chart, the legend above them.
    const named = layout.annotations.length > 0;
    layout.margin.t = named ? 58 : 40;
    layout.legend.y = 1 + (named ? 18 : 4) / (layout.height - layout.margin.t - layout.margin.b);
  }
  Plotly.react(element, resolve(figure.data, style), layout, { responsive: true, displaylogo: false, displayModeBar: false });
}

function drawAll() { document.querySelectorAll(".plot").forEach(draw); }

function setTheme(theme) {
  root.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
  drawAll();
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");
document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
dark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));

document.querySelectorAll("[data-log-of]").forEach((button) =>
  button.addEventListener("click", () => {
    const plot = document.getElementById(button.dataset.logOf);
    plot.dataset.log = plot.dataset.log !== "true";
    button.setAttribute("aria-pressed", plot.dataset.log);
    draw(plot);
  }));

document.querySelectorAll("[data-filter]").forEach((button) =>
  button.addEventListener("click", () => {
    document.querySelectorAll("[data-filter]").forEach((other) => other.setAttribute("aria-pressed", other === button));
    const wanted = button.dataset.filter;
    document.querySelectorAll(".sample").forEach((card) => { card.hidden = wanted !== "all" && !card.classList.contains(wanted); });
  }));

setTheme(dark.matches ? "dark" : "light");
