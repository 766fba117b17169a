// Reads the growing JSON lines, keeps the run, and wires text, card, map and bowl to one selection.

const root = element.querySelector(".fdx");
const part = (name) => root.querySelector(".fdx-" + name);
const stream = part("stream");
const status = part("status");
const text = makeSpans(stream);
const card = makeCard(root, part("card"));
const map = makeLayerMap(part("map"), part("map-keys"), pointOnMap);
const bowl = makeBowl(part("bowl"), part("bowl-readout"));
const legend = makeLegend(part("legend"));
const mapReadout = part("map-readout");

let run = null; // of the header
let steps = [];
let summary = null;
let counts = []; // generated tokens that each routed layer processed
let totals = { tokens: 0, layers: 0, seconds: 0, later: 0 };
let read = ""; // the part of the value that was read, in whole lines
let waiting = null;
let broken = false;
let pinned = null;
let pointed = null;
let pending = false;
let spokenAt = 0;
let speakLater = 0;

function clear() {
  run = null;
  steps = [];
  summary = null;
  counts = [];
  totals = { tokens: 0, layers: 0, seconds: 0, later: 0 };
  read = "";
  waiting = null;
  broken = false;
  pinned = null;
  pointed = null;
  spokenAt = 0;
  mapReadout.textContent = "";
  text.clear();
  card.hide();
}

// `value` grows within a run. One that does not continue what was read is another run, or the same one told anew.
function take(value) {
  const all = typeof value === "string" ? value : "";
  const anew = all === "" || !all.startsWith(read);
  if (anew) clear();
  const whole = all.slice(0, all.lastIndexOf("\n") + 1);
  const fresh = [];
  for (const line of whole.slice(read.length).split("\n")) {
    if (line) accept(line, fresh);
  }
  read = whole;
  if (fresh.length) text.append(fresh, run);
  if (anew && summary) stream.scrollTop = 0; // a run that has ended already is read from its beginning
  refresh();
}

function accept(line, fresh) {
  let data;
  try {
    data = JSON.parse(line);
  } catch {
    broken = true;
    return;
  }
  if (data.waiting) {
    waiting = data.waiting;
  } else if (data.trace) {
    begin(data.trace);
  } else if (data.summary) {
    summary = data.summary;
  } else if (run && Array.isArray(data.executed)) {
    steps.push(data);
    fresh.push(data);
    if (!data.is_prompt) count(data);
  }
}

function begin(header) {
  const routed = header.routed_layers;
  const always = [];
  for (let layer = 0; layer < header.num_layers; layer += 1) if (!routed.includes(layer)) always.push(layer + 1);
  run = { numLayers: header.num_layers, routed, always, alwaysOn: always.length, threshold: header.threshold, header };
  counts = routed.map(() => 0);
  waiting = null;
}

function count(step) {
  step.executed.forEach((executed, place) => { counts[place] += executed ? 1 : 0; });
  if (totals.tokens > 0) totals.later += step.seconds;
  totals.tokens += 1;
  totals.layers += step.layers_used;
  totals.seconds += step.seconds;
}

function refresh() {
  root.classList.toggle("fdx-idle", !run && !waiting);
  root.classList.toggle("fdx-running", Boolean(run) && !summary);
  root.classList.toggle("fdx-ended", Boolean(summary));
  speak();
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    drawCharts();
  });
}

function drawCharts() {
  map.draw(steps, run, Boolean(summary));
  const place = pinned ?? pointed;
  bowl.draw(counts, totals.tokens, run, place === null ? null : steps[place]);
  legend.draw(steps.filter((step) => !step.is_prompt), run);
  map.mark(place, pinned !== null);
}

// A live region that changes at every token cannot be listened to: at most once a second, and at once when a run ends.
function speak() {
  clearTimeout(speakLater);
  const wait = spokenAt + 1000 - performance.now();
  if (run && !summary && steps.length && wait > 0) {
    speakLater = setTimeout(speak, wait);
    return;
  }
  spokenAt = performance.now();
  const [state, facts] = report();
  const parts = [el("span", "fdx-state", state)];
  for (const [value, name] of facts) {
    const fact = el("span", "fdx-stat");
    fact.append(el("b", "", value), " " + name);
    parts.push(fact);
  }
  status.replaceChildren(...parts.flatMap((node, i) => (i ? [" ", node] : [node])));
}

function report() {
  if (waiting && waiting.loading) return ["Loading " + waiting.loading + ". The answer starts by itself.", []];
  if (waiting) {
    const others = waiting.ahead === 1 ? "one run is" : waiting.ahead + " runs are";
    return ["In line: " + others + " before yours. It starts by itself.", []];
  }
  if (!run) return ["Ready", []];
  const facts = [[String(totals.tokens), totals.tokens === 1 ? "token" : "tokens"]];
  if (totals.later > 0) facts.push([((totals.tokens - 1) / totals.later).toFixed(1), "tokens/s"]);
  if (totals.tokens) facts.push([(totals.layers / totals.tokens).toFixed(1), "of " + run.numLayers + " layers on average"]);
  if (broken) return ["Part of the run could not be read", facts];
  if (!summary) return [steps.length ? "Running" : "Reading the prompt", facts];
  const reasons = { end_of_turn: "Finished", max_new_tokens: "Stopped at the token limit", context_limit: "Stopped at the context limit" };
  return [reasons[summary.stop] || "Stopped early", facts];
}

// --- one selection for text, map and bowl -------------------------------------------------------------------------

function select(place, where) {
  const shown = pinned ?? place;
  text.spans.forEach((span, i) => {
    span.classList.toggle("fdx-active", i === shown);
    span.classList.toggle("fdx-pinned", i === pinned);
    if (span.getAttribute("aria-pressed") !== String(i === pinned)) span.setAttribute("aria-pressed", String(i === pinned));
  });
  pointed = place;
  map.mark(shown, pinned !== null);
  bowl.draw(counts, totals.tokens, run, shown === null ? null : steps[shown]);
  if (shown === null) card.hide();
  else if (where || pinned === null) card.show(steps[shown], shown + 1, run, pinned !== null, where || (() => text.spans[shown].getBoundingClientRect()));
}

function overToken(place) {
  if (pinned === null && place !== pointed) select(place);
}

function pin(place, where) {
  pinned = pinned === place ? null : place;
  select(place, where || (() => text.spans[pinned ?? place].getBoundingClientRect()));
}

function free() {
  pinned = null;
  select(null);
}

function pointOnMap(kind, { place, row }) {
  const inside = place !== null && place >= 0 && place < steps.length;
  if (kind === "leave" || !inside) {
    mapReadout.textContent = "";
    if (pinned === null) select(null);
    return;
  }
  const step = steps[place];
  const parts = ["token " + (place + 1)];
  if (row && row.place !== null) {
    parts.push("layer " + (row.first + 1), (step.executed[row.place] ? "ran" : "skipped") + ", gate " + step.gates[row.place].toFixed(2));
  } else {
    parts.push(row ? "layers " + (row.first + 1) + "–" + (row.last + 1) + ", always on" : step.layers_used + " layers");
  }
  mapReadout.textContent = parts.join(" · ");
  const where = () => map.rectOf(place);
  if (kind === "click") {
    pin(place, where);
    text.reveal(place);
  } else if (pinned === null && place !== pointed) {
    select(place, where);
  }
}

// --- events: one listener of each kind for the whole stream -------------------------------------------------------

stream.addEventListener("pointerover", (event) => {
  const place = text.placeOf(event.target);
  if (place !== null) overToken(place);
});
stream.addEventListener("pointerleave", () => { if (!stream.contains(document.activeElement)) overToken(null); });
stream.addEventListener("focusin", (event) => {
  const place = text.placeOf(event.target);
  if (place !== null) overToken(place);
});
stream.addEventListener("focusout", (event) => { if (!stream.contains(event.relatedTarget)) overToken(null); });
stream.addEventListener("click", (event) => {
  const place = text.placeOf(event.target);
  if (place === null || String(window.getSelection())) return; // a selection is no click
  text.focus(place);
  pin(place);
});
stream.addEventListener("keydown", (event) => {
  const place = text.placeOf(event.target);
  if (place === null || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = {
    ArrowLeft: () => Math.max(0, place - 1),
    ArrowRight: () => Math.min(steps.length - 1, place + 1),
    ArrowUp: () => text.beside(place, -1),
    ArrowDown: () => text.beside(place, 1),
    Home: () => 0,
    End: () => steps.length - 1,
  };
  if (event.key in moves) {
    const next = moves[event.key]();
    if (pinned !== null) pinned = next;
    text.focus(next);
    select(next, pinned === null ? undefined : () => text.spans[next].getBoundingClientRect());
    map.reveal(next);
  } else if (event.key === "Enter" || event.key === " ") {
    pin(place);
  } else {
    return;
  }
  event.preventDefault();
});
root.addEventListener("keydown", (event) => { if (event.key === "Escape") free(); });
stream.addEventListener("scroll", () => card.settle(), { passive: true });
part("numbers").addEventListener("change", (event) => root.classList.toggle("fdx-numbered", event.target.checked));
document.addEventListener("click", (event) => { if (pinned !== null && !root.contains(event.target)) free(); });

const redraw = () => { drawCharts(); card.settle(); };
new ResizeObserver(redraw).observe(root);
new MutationObserver(redraw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
watch("value", () => take(props.value));
watch(["always_on", "num_layers"], () => { if (!run) legend.range(props.always_on, props.num_layers); });
legend.range(props.always_on, props.num_layers);
take(props.value);
