// Reads the growing JSON lines of a comparison and deals them out: panels, overlaid bowls, table of means, one card.

const root = element.querySelector(".fdx");
const part = (name) => root.querySelector(".fdx-" + name);
const status = part("status");
const card = makeCard(root, part("card"));
const legend = makeLegend(part("legend"));
const lines = makeBowlLines(part("lines"), part("lines-readout"), onCurve);
const COLOURS = ["#2a6fb9", "#c2590c", "#0f8a7e", "#b02a6f", "#5f8f17", "#7c4ddb"]; // told apart on white and on dark

let panels = [];
let common = null; // what the header of every run says alike
let current = null; // { panel, run }
let pinned = null; // { run, place } whose card stays
let ended = null;
let waiting = null;
let read = "";
let pending = false;
let differ = false; // two panels answer the same prompt

function clear() {
  panels = [];
  common = null;
  current = null;
  pinned = null;
  ended = null;
  waiting = null;
  read = "";
  part("panels").replaceChildren();
  part("means").replaceChildren();
  card.hide();
}

function take(value) {
  const all = typeof value === "string" ? value : "";
  if (all === "" || !all.startsWith(read)) clear();
  const whole = all.slice(0, all.lastIndexOf("\n") + 1);
  let fresh = [];
  const flush = () => {
    if (fresh.length) current.panel.add(current.run, fresh);
    fresh = [];
  };
  for (const line of whole.slice(read.length).split("\n")) {
    if (!line) continue;
    const data = JSON.parse(line);
    if (Array.isArray(data.executed)) {
      if (!data.is_prompt) fresh.push(data);
      continue;
    }
    flush();
    accept(data);
  }
  flush();
  read = whole;
  if (differ) markDifference();
  refresh();
}

// The first place at which the two answers part, once both have come so far.
function markDifference() {
  const [before, after] = panels.map((panel) => panel.runs[0]);
  if (!before || !after) return;
  const both = Math.min(before.steps.length, after.steps.length);
  let place = 0;
  while (place < both && before.steps[place].token_id === after.steps[place].token_id) place += 1;
  const parted = place < both || (ended && before.steps.length !== after.steps.length);
  for (const run of [before, after]) {
    run.text.spans.forEach((span, i) => span.classList.toggle("fdx-differs", parted && i === place));
  }
  if (parted) panels[1].say("differs from token " + (place + 1) + " on");
  else if (ended) panels[1].say("the same " + both + " tokens");
}

function accept(data) {
  if (data.compare) {
    panels = data.compare.panels.map((about, number) => makePanel(about, COLOURS[number % COLOURS.length]));
    differ = Boolean(data.compare.differ);
    part("panels").replaceChildren(...panels.map((panel) => panel.box));
  } else if (data.waiting) {
    waiting = data.waiting;
  } else if (data.run) {
    waiting = null;
    current = { panel: panels[data.run.panel], run: panels[data.run.panel].begin(data.run.title) };
  } else if (data.trace) {
    const header = data.trace;
    const always = [];
    for (let layer = 0; layer < header.num_layers; layer += 1) if (!header.routed_layers.includes(layer)) always.push(layer + 1);
    common = { numLayers: header.num_layers, routed: header.routed_layers, always, alwaysOn: always.length, threshold: header.threshold };
    current.run.head = common;
  } else if (data.table) {
    drawTable(data.table);
  } else if (data.ended) {
    ended = data.ended;
  }
}

function refresh() {
  root.classList.toggle("fdx-idle", !panels.length);
  root.classList.toggle("fdx-running", Boolean(panels.length) && !ended);
  root.classList.toggle("fdx-ended", Boolean(ended));
  speak();
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    lines.draw(panels, common);
    legend.draw(panels.flatMap((panel) => panel.runs.flatMap((run) => run.steps)), common);
  });
}

function speak() {
  let words = "Choose tasks and press Run";
  if (ended) words = ended.stopped ? "Stopped early" : "Finished";
  else if (waiting && waiting.loading) words = "Loading " + waiting.loading;
  else if (waiting) words = "In line: " + waiting.ahead + (waiting.ahead === 1 ? " run is" : " runs are") + " before yours";
  else if (current) words = "Running: " + current.panel.label + ", " + current.run.title;
  else if (panels.length) words = "Starting";
  if (status.textContent !== words) status.replaceChildren(el("span", "fdx-state", words));
}

function drawTable(rows) {
  const table = el("table", "fdx-table");
  const head = el("tr");
  for (const name of ["task", "inputs", "tokens", "mean layers", "95 %", "sd over tokens"]) {
    const cell = el("th", "", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = el("tbody");
  for (const row of rows) {
    const line = el("tr");
    const name = el("th", "", row.label);
    name.scope = "row";
    const interval = row.inputs > 1 ? row.low.toFixed(2) + " to " + row.high.toFixed(2) : "one input";
    line.append(name, ...[row.inputs, row.tokens, row.mean.toFixed(2), interval, row.sd.toFixed(2)].map((value) => el("td", "", String(value))));
    body.append(line);
  }
  const top = el("thead");
  top.append(head);
  table.append(top, body);
  part("means").replaceChildren(table);
}

function onCurve(kind, number, place) {
  const panel = panels[number];
  if (!panel || (place !== null && !panel.total)) return "";
  if (kind === "name") return panel.label + ", layer " + (common.routed[place] + 1) + ": " + percent(panel.counts[place] / panel.total);
  panels.forEach((each) => each.mark(each === panel ? place : null));
  panel.box.scrollIntoView({ block: "nearest", behavior: "auto" });
  const first = panel.runs[panel.shown ?? 0]?.text;
  if (first?.spans.length) first.focus(0);
  return "";
}

// --- token details: the same card as for one run ------------------------------------------------------------------

function tokenAt(target) {
  for (const panel of panels) {
    for (const run of panel.runs) {
      const place = run.text.placeOf(target);
      if (place !== null) return { run, place };
    }
  }
  return null;
}

function show(at) {
  const span = at.run.text.spans[at.place];
  card.show(at.run.steps[at.place], at.place + 1, at.run.head, pinned !== null, () => span.getBoundingClientRect());
}

function point(event) {
  if (pinned) return;
  const at = tokenAt(event.target);
  if (at) show(at);
  else if (!root.contains(document.activeElement)) card.hide();
}

// A click on a token, or Enter on it, keeps its card until the next click on it, another token's, elsewhere, or Escape.
function pin(at) {
  const again = pinned && at && pinned.run === at.run && pinned.place === at.place;
  release();
  if (!at || again) return;
  pinned = at;
  at.run.text.spans[at.place].setAttribute("aria-pressed", "true");
  at.run.text.spans[at.place].classList.add("fdx-pinned");
  show(at);
}

function release() {
  if (pinned) {
    const span = pinned.run.text.spans[pinned.place];
    span.setAttribute("aria-pressed", "false");
    span.classList.remove("fdx-pinned");
  }
  pinned = null;
  card.hide();
}

function leave() {
  if (!pinned) card.hide();
}

const box = part("panels");
box.addEventListener("pointerover", point);
box.addEventListener("pointerleave", leave);
box.addEventListener("focusin", point);
box.addEventListener("focusout", leave);
box.addEventListener("click", (event) => pin(tokenAt(event.target)));
document.addEventListener("click", (event) => { if (pinned && !root.contains(event.target)) release(); });
box.addEventListener("keydown", (event) => {
  const at = tokenAt(event.target);
  const moves = { ArrowLeft: -1, ArrowRight: 1 };
  if (!at) return;
  if (event.key === "Enter" || event.key === " ") {
    pin(at);
    event.preventDefault();
    return;
  }
  if (!(event.key in moves)) return;
  at.run.text.focus(Math.min(at.run.steps.length - 1, Math.max(0, at.place + moves[event.key])));
  event.preventDefault();
});
root.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  release();
  panels.forEach((panel) => panel.mark(null));
});

const redraw = () => { lines.draw(panels, common); card.settle(); };
new ResizeObserver(redraw).observe(root);
watch("value", () => take(props.value));
watch(["always_on", "num_layers"], () => { if (!common) legend.range(props.always_on, props.num_layers); });
legend.range(props.always_on, props.num_layers);
take(props.value);
