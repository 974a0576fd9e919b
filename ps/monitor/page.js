// Asks for a snapshot once a second and shows it. Whatever comes from a job is put in as text, never as markup.
"use strict";

const INTERVAL = 1000, STALE = 5000, TAIL = 15, SHOWN_ROWS = 200, MOST_PLOTS = 16;
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const config = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  plotlyServerURL: "" };

let number = 0, curves = null, heard = 0, snapshot = null, asking = false, refused = "";

const $ = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function filled(parent, children) { parent.replaceChildren(...children); return parent; }

// Plotly reads a few tags in names.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function short(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) return value.toExponential(2);
  for (const [unit, of] of [["T", 1e12], ["G", 1e9], ["M", 1e6]]) if (size >= of) return (value / of).toPrecision(3) + unit;
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, of] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (value >= of) return `${(value / of).toPrecision(3)} ${unit}`;
  return `${Math.round(value)} B`;
}

function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

// Asking

async function fetched(path) {
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(4000) });
  if (answer.status === 204) return null;
  if (!answer.ok) throw new Error(answer.status === 401
    ? "the token is missing or wrong: open the page with #token=… behind its address" : (await answer.text()).trim());
  return answer.json();
}

async function ask() {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const found = await fetched(`snapshot.json?after=${number}`);
    refused = "";
    if (found !== null) {
      if (found.snapshot.time !== (snapshot || {}).time) heard = performance.now();
      ({ number, snapshot } = found);
      snapshot.trouble = found.trouble;
      if (curves === null || !joined(found.tail)) curves = (await fetched("curves.json")).curves;
      show();
    }
  } catch (error) {
    refused = error instanceof TypeError || error.name === "TimeoutError" ? "whoever served this page does not answer" : error.message;
  }
  asking = false;
  news();
}

// Adds the last points of each curve; false where some between are not here.
function joined(tail) {
  for (const [name, last] of Object.entries(tail)) {
    const curve = curves[name];
    if (curve === undefined) {
      if (last.at.length >= TAIL) return false;
      curves[name] = last;
      continue;
    }
    const first = last.at[0], known = curve.at;
    if (last.at.length >= TAIL && known.length && known[known.length - 1] < first) return false;
    let keep = known.length;
    while (keep && known[keep - 1] >= first) keep -= 1;
    for (const column of Object.keys(curve)) curve[column] = curve[column].slice(0, keep).concat(last[column]);
    if (curve.at.length > 4000) return false;
  }
  return true;
}

function news() {
  const silent = performance.now() - heard, place = $("news");
  const stale = heard === 0 ? refused !== "" : silent > STALE || refused !== "";
  place.className = `news ${stale ? "stale" : heard ? "fresh" : ""}`;
  place.textContent = heard === 0 ? (refused ? "no news" : "asks for news")
    : stale ? `not live: no news for ${span(silent / 1000)}` : "live";
  $("trouble").textContent = refused || (stale && snapshot && snapshot.trouble) || "";
}

// Showing

function show() {
  const { job, now, federated } = snapshot;
  const title = [job.mode || "job", federated ? federated.algorithm : job.optimizer].filter(Boolean).join(" · ");
  $("title").textContent = title;
  document.title = `${snapshot.where} · ${title}`;
  $("phase").textContent = snapshot.phase;
  $("phase").className = `pill ${["running", "failed"].includes(snapshot.phase) ? snapshot.phase : ""}`;
  const part = snapshot.total ? Math.min(1, snapshot.done / snapshot.total) : 0;
  $("progress").hidden = !snapshot.total;
  $("progress").setAttribute("aria-valuenow", Math.round(100 * part));
  $("bar").style.width = `${100 * part}%`;
  const where = [snapshot.where];
  if (snapshot.left_s !== null) where.push(`${span(snapshot.left_s)} left`);
  if (snapshot.total) where.push(`${Math.floor(100 * part)} %`);
  $("where").textContent = where.join(" · ");
  const counts = Object.entries(snapshot.totals).map(([role, states]) =>
    `${role}: ${Object.entries(states).map(([state, count]) => `${count} ${state}`).join(", ") || "none"}`);
  $("facts").textContent = [...counts, `epoch ${snapshot.epoch}`, `up ${span(snapshot.uptime_s || 0)}`, snapshot.address,
    snapshot.reason].filter(Boolean).join(" · ");
  tiles(now);
  notes();
  plots();
  rounds(federated);
  members(federated);
  filled($("deaths"), snapshot.deaths.map((line) => element("li", line)));
  $("deaths-section").hidden = !snapshot.deaths.length;
  filled($("settings"), Object.entries(job).map(([name, value]) =>
    filled(element("div"), [element("dt", name), element("dd", value)])));
  $("foot").textContent = `as of ${new Date(1000 * snapshot.time).toLocaleTimeString()}; curves begin where somebody began to look`;
}

function tile(name, big, more, bad) {
  return filled(element("li", null, "tile"),
    [element("div", name, "name"), element("div", big, bad ? "big bad" : "big"), element("div", more || "", "more")]);
}

function tiles(now) {
  const found = [];
  for (const [name, metric] of Object.entries(snapshot.metrics).slice(0, 3)) {
    const odd = metric.odd ? `${metric.odd} steps not finite of late` : "";
    const range = metric.low !== null && metric.low !== metric.high ? `${short(metric.low)} to ${short(metric.high)}` : "";
    found.push(tile(name, short(metric.shown), odd || range, metric.odd > 0));
  }
  if (snapshot.measured) for (const [name, value] of Object.entries(snapshot.measured.values).slice(0, 2))
    found.push(tile(name, short(value), `measured at ${snapshot.measured.clock}`, typeof value === "string"));
  if (now.steps_per_s !== undefined) found.push(tile(snapshot.federated ? "local steps/s" : "steps/s", short(now.steps_per_s, 3)));
  if (now.samples_per_s) found.push(tile("samples/s", short(now.samples_per_s)));
  if (now.up_per_s !== undefined) {
    found.push(tile("traffic up", `${bytes(now.up_per_s)}/s`, `down ${bytes(now.down_per_s)}/s`));
    found.push(tile("waiting", `${Math.round(100 * now.waiting)} %`, "of workers’ time"));
  }
  if (!snapshot.federated) found.push(tile("lag", short(now.lag), `staleness up to ${short(now.staleness)}`));
  const live = snapshot.totals.workers.live || 0, wanted = snapshot.job.workers;
  found.push(tile(snapshot.federated ? "clients" : "workers", String(live), wanted ? `of ${wanted}` : "", snapshot.died > 0 && live < wanted));
  filled($("tiles"), found);
}

function notes() {
  const { checkpoint, moves } = snapshot, found = [];
  const add = (text, className) => found.push(element("li", text, className));
  if (snapshot.stop) add(snapshot.stop);
  if (snapshot.idle_s !== null) add(`no worker for ${span(snapshot.idle_s)}`);
  for (const line of snapshot.waits) add(line);
  if (checkpoint) {
    const ago = checkpoint.ago_s === null ? "" : `, ${span(checkpoint.ago_s)} ago`;
    add(checkpoint.folder ? `checkpoint ${checkpoint.folder}, of step ${checkpoint.step}${ago}` : "no checkpoint is whole yet");
    if (checkpoint.waiting_s !== null) add(`a checkpoint is being made: it waits for ${checkpoint.waiting_for.join(", ") || "the disk"}`);
    if (checkpoint.trouble) add(`the last checkpoint failed: ${checkpoint.trouble}`, "bad");
  }
  if (moves) add(`${moves.moved} chunks have moved, ${moves.left} are left to move${moves.trouble ? `: ${moves.trouble}` : ""}`);
  const rejected = Object.entries(snapshot.rejected);
  if (rejected.length) add(`the scheduler has refused ${rejected.map(([why, count]) => `${count} × ${why}`).join(", ")}`);
  filled($("notes"), found);
  $("notes-section").hidden = !found.length;
}

// Plots

const TITLES = { "now/samples_per_s": ["Samples a second", "async"], "now/steps_per_s": ["Steps a second", "sync"],
  "now/waiting": ["Time that workers wait", "ssp"], "now/lag": ["Lag of the last worker", "pipeline"] };

function wanted() {
  const found = [], names = Object.keys(curves);
  const add = (id, title, parts, options = {}) => found.push({ id, title, parts, options });
  for (const name of names) if (name.startsWith("metric/")) add(name, name.slice(7), [[name, "mean of workers", "sync"]], { log: true });
  for (const name of names) if (name.startsWith("eval/"))
    add(name, `${name.slice(5)}, measured`, [[name, name.slice(5), "federated-iid"]], { over: snapshot.federated ? "round" : "step", dots: true });
  for (const name of names) if (name.startsWith("client/"))
    add(name, `${name.slice(7)} over clients`, [[name, "median", "ssp"]], { over: "round", dots: true });
  if (curves["round/accepted"]) add("rounds", "Contributions of a round",
    [["round/accepted", "accepted", "federated-iid"], ["round/refused", "refused", "federated-non-iid"]], { over: "round", bars: true });
  if (curves["round/seconds"]) add("round/seconds", "Seconds of a round", [["round/seconds", "seconds", "pipeline"]], { over: "round", dots: true, zero: true });
  for (const [name, [title, ink]] of Object.entries(TITLES)) {
    if (!curves[name] || (name === "now/lag" && snapshot.federated)) continue;
    add(name, title, [[name, title, ink]], { zero: true, percent: name === "now/waiting" });
  }
  if (curves["now/up_per_s"]) add("traffic", "Bytes a second",
    [["now/up_per_s", "up", "sync"], ["now/down_per_s", "down", "async"]], { zero: true, bytes: true });
  if (curves["now/workers"]) add("members", "Live members",
    [["now/workers", "workers", "sync"], ["now/servers", "servers", "federated-iid"]], { zero: true, steps: true });
  return found.slice(0, MOST_PLOTS);
}

const drawnAs = new Map(), logarithmic = new Set();

function logButton(one) {
  const button = element("button", "log");
  button.title = "logarithmic axis";
  const tell = () => button.setAttribute("aria-pressed", logarithmic.has(one.id));
  button.addEventListener("click", () => {
    if (!logarithmic.delete(one.id)) logarithmic.add(one.id);
    tell();
    plots();
  });
  tell();
  return button;
}

function plots() {
  const list = wanted(), ids = list.map(({ id }) => id).join("\n");
  if ($("plots").dataset.ids !== ids) {
    for (const figure of $("plots").querySelectorAll(".plot")) Plotly.purge(figure);
    drawnAs.clear();
    filled($("plots"), list.map((one) => {
      const { id, title, options } = one;
      const place = element("div", null, "plot");
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", title);
      drawnAs.set(id, place);
      return filled(element("figure"), [...(options.log ? [logButton(one)] : []), element("h3", title), place]);
    }));
    $("plots").dataset.ids = ids;
  }
  for (const one of list) draw(one);
}

function draw({ id, parts, options }) {
  const data = [];
  for (const [name, label, ink] of parts) if (curves[name]) data.push(...traces(curves[name], label, colour(ink), options, parts.length > 1));
  Plotly.react(drawnAs.get(id), data, layout(options, logarithmic.has(id)), config);
}

function traces(curve, label, ink, options, several) {
  const x = options.over ? curve.at : curve.at.map((at) => new Date(1000 * at)), name = plain(label), found = [];
  if (options.bars) return [{ type: "bar", x, y: curve.last, name, marker: { color: ink }, showlegend: true }];
  const wide = curve.low.some((low, i) => low !== null && low !== curve.high[i]);
  if (wide) {
    const edge = { x, mode: "lines", line: { width: 0.6, color: ink, shape: "linear" }, opacity: 0.45, hoverinfo: "skip",
      showlegend: false, connectgaps: false };
    found.push({ ...edge, y: curve.low }, { ...edge, y: curve.high, fill: "tonexty", fillcolor: `${ink}33` });
  }
  const told = curve.last.map((last, i) => `${name}: ${short(last)}`
    + (wide && curve.low[i] !== curve.high[i] ? `<br>${short(curve.low[i])} to ${short(curve.high[i])}` : ""));
  found.push({ x, y: curve.last, text: told, hovertemplate: "%{text}<extra></extra>", name, showlegend: several,
    mode: (options.dots && x.length < 80) || x.length < 2 ? "lines+markers" : "lines", marker: { size: 5, color: ink },
    line: { color: ink, width: 1.8, shape: options.steps ? "hv" : "linear" }, connectgaps: false });
  const odd = curve.odd.map((count, i) => (count ? i : -1)).filter((i) => i >= 0);
  if (odd.length) {
    const finite = curve.low.filter((low) => low !== null), floor = finite.length ? Math.min(...finite) : 0;
    found.push({ x: odd.map((i) => x[i]), y: odd.map((i) => curve.last[i] ?? floor), mode: "markers", name: "not finite",
      text: odd.map((i) => `${curve.odd[i]} × NaN or infinite`), hovertemplate: "%{text}<extra></extra>", showlegend: true,
      marker: { symbol: "x", size: 9, color: colour("bad") } });
  }
  return found;
}

function layout(options, isLog) {
  const axis = { automargin: true, gridcolor: colour("edge"), zerolinecolor: colour("edge"), linecolor: colour("edge"),
    tickfont: { color: colour("soft"), size: 11 } };
  const y = { ...axis, nticks: 6, rangemode: options.zero || options.bars ? "tozero" : "normal" };
  if (isLog) Object.assign(y, { type: "log", rangemode: "normal", dtick: 1 });
  if (options.percent) y.tickformat = ".0%";
  if (options.bytes) Object.assign(y, { tickformat: "~s", ticksuffix: "B" });
  const x = { ...axis, nticks: 6, showgrid: false, tickformat: snapshot.uptime_s > 86400 ? "%b %d %H:%M" : "%H:%M:%S" };
  if (options.over) Object.assign(x, { title: { text: options.over, standoff: 4, font: { size: 11, color: colour("soft") } }, rangemode: "normal", tickformat: ",d" });
  return { margin: { l: 8, r: 10, t: 8, b: 24 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", uirevision: "kept",
    hovermode: "closest", barmode: "stack", xaxis: x, yaxis: y,
    font: { color: colour("ink"), family: "system-ui, sans-serif", size: 12 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("edge"), font: { color: colour("ink") } },
    modebar: { color: colour("soft"), activecolor: colour("ink"), bgcolor: "rgba(0,0,0,0)" } };
}

// Tables

function table(heads, rows, from) {
  const head = element("tr");
  heads.forEach((name, i) => { const cell = element("th", name, i >= from[0] && i < from[1] ? "n" : ""); cell.scope = "col"; head.append(cell); });
  const body = rows.map(({ cells, className }) => {
    const row = element("tr", null, className);
    cells.forEach((text, i) => {
      const cell = element(i ? "td" : "th", text, i >= from[1] ? "long" : i >= from[0] ? "n" : "");
      if (!i) cell.scope = "row";
      row.append(cell);
    });
    return row;
  });
  return filled(element("table"), [filled(element("thead"), [head]), filled(element("tbody"), body)]);
}

function members(federated) {
  const secret = snapshot.private;
  const heads = ["member", "state", "seen", federated ? "round" : "clock", ...(federated ? [] : ["lag"]),
    ...(secret ? [] : ["samples/s", "loss"]), "up", "down", "waited", "staleness", "where", "waits for"];
  const rows = snapshot.members.slice(0, SHOWN_ROWS).map((row) => {
    const works = row.lag !== undefined, only = (text) => (works ? text : "");
    const cells = [`${row.role} ${row.rank}`, row.state, row.seen_s === null ? "" : `${short(row.seen_s, 2)} s`, short(row.clock),
      ...(federated ? [] : [only(short(row.lag))]), ...(secret ? [] : [only(short(row.samples_per_s)), only(row.loss === null || row.loss === undefined ? "" : short(row.loss))]),
      only(bytes(row.up)), only(bytes(row.down)), only(`${short(row.wait_s, 3)} s`), only(short(row.staleness)), row.where,
      [...row.waits, row.note].filter(Boolean).join("; ")];
    return { cells, className: row.state !== "live" ? "gone" : row.waited_for ? "waited" : "" };
  });
  const place = $("members"), left = place.scrollLeft;
  filled(place, [table(heads, rows, [2, heads.length - 2])]);
  place.scrollLeft = left;
  $("members-note").textContent = snapshot.others ? `${snapshot.others.toLocaleString("en")} more are not shown: these are those that stand out` : "";
}

function rounds(federated) {
  $("rounds").hidden = !federated;
  if (!federated) return;
  const last = federated.history[federated.history.length - 1], parts = [element("h2", "Rounds")];
  const sums = ["active", "accepted", "goal", "spare", "capped", "abandoned"].map((key) => `${federated[key]} ${key === "active" ? "training" : key}`);
  parts.push(element("p", `${federated.phase}, attempt ${federated.attempt}: ${sums.join(" · ")}`));
  const refused = Object.entries(federated.refused);
  parts.push(element("p", refused.length ? `refused: ${refused.map(([why, count]) => `${count} × ${why}`).join(", ")}` : "nothing refused", "soft"));
  if (federated.slow.length) parts.push(element("p", `often late, or too slow to be waited for: clients ${federated.slow.join(", ")}`, "soft"));
  if (federated.fruitless.length) parts.push(element("p", `nothing counts: clients ${federated.fruitless.join(", ")}`, "soft"));
  if (federated.privacy) parts.push(element("p", `privacy: ${Object.entries(federated.privacy).map(([name, value]) => `${name} ${short(value)}`).join(" · ")}`, "soft"));
  if (last) {
    parts.push(element("p", `last round: ${short(last.seconds, 3)} s, ${last.accepted} of ${last.selected} counted, ${short(last.steps)} steps on ${short(last.examples)} examples`));
    const columns = snapshot.private ? ["mean", "n"] : ["mean", "min", "p10", "p50", "p90", "max", "n"];
    const rows = Object.entries(last.metrics).map(([name, found]) => ({ cells: [name, ...columns.map((column) => short(found[column]))] }));
    if (rows.length) parts.push(filled(element("div", null, "scroll"), [table(["of the clients", ...columns], rows, [1, 99])]));
  }
  filled($("rounds"), parts);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => snapshot && plots());
document.addEventListener("visibilitychange", () => ask());
setInterval(news, 500);
setInterval(ask, INTERVAL);
ask();
