// The layer x token map: depth bars on top, a row per routed layer, always-on layers as one hatched band.
// Knows no card and no trace format; it reports where the pointer is through `onPoint`.

function makeLayerMap(box, keys, onPoint) {
  const DEPTH_HEIGHT = 46;
  const BAND = 14;
  const AXIS = 18;
  const MARGIN = 10; // for the last number of the axis
  const MIN_COLUMN = 3;
  const labels = el("div", "fdx-map-labels");
  const scroller = el("div", "fdx-map-scroll");
  const sheet = el("div", "fdx-map-sheet");
  const canvas = el("canvas", "fdx-map-canvas");
  const marker = el("div", "fdx-map-marker");
  canvas.setAttribute("role", "img");
  marker.hidden = true;
  sheet.append(canvas, marker);
  scroller.append(sheet);
  box.append(labels, scroller);
  let rows = [];
  let height = 0;
  let column = 8;
  let drawn = null;
  let painted = { on: "", tokens: 0 }; // what the canvas shows: the paper it lies on, and how many columns

  // Top to bottom: the last layer first. Neighbouring always-on layers share one band.
  function layOut(run) {
    const routed = new Map(run.routed.map((layer, place) => [layer, place]));
    const rowHeight = run.routed.length <= 20 ? 12 : run.routed.length <= 40 ? 8 : 5;
    rows = [];
    let top = DEPTH_HEIGHT + 8;
    for (let layer = run.numLayers - 1; layer >= 0; layer -= 1) {
      if (routed.has(layer)) {
        rows.push({ first: layer, last: layer, place: routed.get(layer), top, height: rowHeight });
        top += rowHeight;
        continue;
      }
      let last = layer;
      while (layer > 0 && !routed.has(layer - 1)) layer -= 1;
      rows.push({ first: layer, last, place: null, top: top + 3, height: BAND });
      top += BAND + 6;
    }
    height = top + AXIS;
    labels.replaceChildren();
    labels.style.height = height + "px";
    const name = el("span", "fdx-map-label fdx-map-label-depth", "depth");
    name.style.top = DEPTH_HEIGHT / 2 - 7 + "px";
    labels.append(name);
    rows.forEach((row) => {
      const text = row.first === row.last ? String(row.first + 1) : row.first + 1 + "–" + (row.last + 1);
      if (row.place !== null && rowHeight < 12 && (row.first + 1) % 4) return;
      const label = el("span", "fdx-map-label", text);
      label.style.top = row.top + row.height / 2 - 7 + "px";
      labels.append(label);
    });
    keyLine(run);
  }

  function keyLine(run) {
    const item = (kind, text) => {
      const span = el("span", "fdx-key-item");
      span.append(el("span", "fdx-key fdx-key-" + kind), text);
      return span;
    };
    keys.replaceChildren(item("ran", "ran, stronger with a higher gate"), item("skipped", "skipped"));
    if (run.always.length) keys.append(item("always", "always on"));
  }

  function columnWidth(steps, finished) {
    const room = Math.max(120, scroller.clientWidth - MARGIN);
    // While a run grows, the scale changes only when its room is used up.
    let slots = 64;
    while (slots < steps.length) slots *= 2;
    const wanted = room / (finished ? Math.max(steps.length, 24) : slots);
    return Math.min(14, Math.max(MIN_COLUMN, wanted));
  }

  function theme() {
    const style = getComputedStyle(box);
    const read = (name) => style.getPropertyValue(name).trim();
    return { ink: read("--fdx-muted"), line: read("--fdx-line"), band: read("--fdx-band"), hatch: read("--fdx-hatch"), skipped: read("--fdx-skipped"), ran: [read("--fdx-ran-low"), read("--fdx-ran-high")], edge: read("--fdx-edge") };
  }

  function mix([a, b], share) {
    return "rgb(" + a.map((value, i) => Math.round(value + (b[i] - value) * share)).join(",") + ")";
  }

  function draw(steps, run, finished) {
    if (!run) {
      drawn = null;
      painted = { on: "", tokens: 0 };
      rows = [];
      marker.hidden = true;
      box.classList.add("fdx-empty");
      return;
    }
    if (drawn !== run) {
      layOut(run);
      painted = { on: "", tokens: 0 };
    }
    drawn = run;
    box.classList.remove("fdx-empty");
    column = columnWidth(steps, finished);
    // A growing run gets paper for 128 more columns at a time: new paper means painting everything again.
    const columns = finished ? steps.length : 128 * Math.ceil(steps.length / 128);
    const width = Math.max(scroller.clientWidth, Math.ceil(column * columns) + MARGIN);
    const seen = scroller.scrollLeft + scroller.clientWidth;
    const atEnd = seen > column * painted.tokens + MARGIN - 24;
    const ratio = window.devicePixelRatio || 1;
    const pen = canvas.getContext("2d");
    const look = theme();
    const on = JSON.stringify([width, height, ratio, column, finished, look]);
    // A growing run on the same paper adds columns; painting all of them at every token would take longer and longer.
    const from = on === painted.on && painted.tokens <= steps.length ? painted.tokens : 0;
    painted = { on, tokens: steps.length };
    if (from === 0) {
      sheet.style.width = width + "px";
      sheet.style.height = height + "px";
      canvas.style.width = width + "px";
      canvas.style.height = height + "px";
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    const gap = column >= 5 ? 1 : 0;
    // Columns start on whole device pixels, so that neighbours never blur into each other.
    const left = (index) => Math.round(index * column * ratio) / ratio;
    const used = left(steps.length);
    if (from === 0) ground(pen, look, finished ? used : width);
    bands(pen, look, left(from), used);
    const ran = look.ran.map(channels);
    for (let index = from; index < steps.length; index += 1) {
      const step = steps[index];
      const x = left(index);
      const w = Math.max(1, left(index + 1) - x - gap);
      const place = depthPlace(step.layers_used, run.alwaysOn, run.numLayers);
      const h = 4 + (DEPTH_HEIGHT - 4) * place;
      pen.fillStyle = rampColour(place);
      pen.fillRect(x, DEPTH_HEIGHT - h, w, h);
      if (column >= 5) {
        pen.strokeStyle = look.edge;
        pen.lineWidth = 1;
        pen.strokeRect(x + 0.5, DEPTH_HEIGHT - h + 0.5, w - 1, h - 1);
      }
      for (const row of rows) {
        if (row.place === null || !step.executed[row.place]) continue;
        const span = Math.max(1e-6, 1 - run.threshold);
        pen.fillStyle = mix(ran, Math.min(1, Math.max(0, (step.gates[row.place] - run.threshold) / span)));
        pen.fillRect(x, row.top, w, row.height - 1);
      }
    }
    axis(pen, look, steps.length, left);
    const end = used + MARGIN;
    if (atEnd && !finished && seen < end) scroller.scrollLeft = end - scroller.clientWidth;
    const mean = steps.length ? (steps.reduce((sum, step) => sum + step.layers_used, 0) / steps.length).toFixed(1) : "0";
    canvas.setAttribute("aria-label", "Map of " + run.numLayers + " layers by " + steps.length + " tokens; " + mean + " layers used on average");
    canvas.dataset.tokens = String(steps.length);
  }

  function ground(pen, look, width) {
    pen.fillStyle = look.skipped;
    for (const row of rows) {
      if (row.place !== null) pen.fillRect(0, row.top, width, row.height - 1);
    }
    pen.fillStyle = look.line;
    pen.fillRect(0, DEPTH_HEIGHT, width, 1);
  }

  // The always-on layers, hatched, from one place to another.
  function bands(pen, look, start, end) {
    for (const row of rows) {
      if (row.place !== null || end <= start) continue;
      pen.fillStyle = look.band;
      pen.fillRect(start, row.top, end - start, row.height);
      pen.save();
      pen.beginPath();
      pen.rect(start, row.top, end - start, row.height);
      pen.clip();
      pen.strokeStyle = look.hatch;
      pen.lineWidth = 1;
      pen.beginPath();
      for (let x = 5 * Math.floor((start - row.height) / 5); x < end; x += 5) {
        pen.moveTo(x, row.top + row.height);
        pen.lineTo(x + row.height, row.top);
      }
      pen.stroke();
      pen.restore();
    }
  }

  function axis(pen, look, count, left) {
    pen.clearRect(0, height - AXIS, canvas.width, AXIS);
    const step = [5, 10, 20, 50, 100, 200].find((size) => size * column >= 44) || 500;
    pen.fillStyle = look.ink;
    pen.font = "11px " + getComputedStyle(box).fontFamily;
    pen.textAlign = "center";
    for (let number = step; number <= count; number += step) {
      const x = (left(number - 1) + left(number)) / 2;
      pen.fillRect(Math.round(x), height - AXIS, 1, 4);
      pen.fillText(String(number), x, height - 3);
    }
  }

  function mark(place, pinned) {
    marker.hidden = place === null || !drawn;
    if (marker.hidden) return;
    marker.style.left = place * column - 1 + "px";
    marker.style.width = Math.max(3, column + 1) + "px";
    marker.style.height = height - AXIS + 2 + "px";
    marker.classList.toggle("fdx-pinned", pinned);
  }

  function reveal(place) {
    const x = place * column;
    if (x < scroller.scrollLeft || x > scroller.scrollLeft + scroller.clientWidth - column) {
      scroller.scrollLeft = x - scroller.clientWidth / 2;
    }
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const place = Math.floor((event.clientX - box.left) / column);
    const y = event.clientY - box.top;
    const row = rows.find((each) => y >= each.top && y < each.top + each.height) || null;
    return { place, row };
  }

  function rectOf(place) {
    const box = canvas.getBoundingClientRect();
    const left = box.left + place * column;
    return { left, right: left + column, top: box.top + 2, bottom: box.top + height };
  }

  canvas.addEventListener("pointermove", (event) => onPoint("move", at(event)));
  canvas.addEventListener("pointerleave", () => onPoint("leave", { place: null, row: null }));
  canvas.addEventListener("click", (event) => onPoint("click", at(event)));
  return { draw, mark, reveal, rectOf };
}
