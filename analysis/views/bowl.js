// The bowl: share of generated tokens that each layer processed, always-on layers hatched. Knows no trace format.

function makeBowl(box, readout) {
  const LEFT = 40;
  const BOTTOM = 34;
  const TOP = 8;
  let last = null;
  const chart = svg("svg", { class: "fdx-bowl-svg", role: "img" });
  box.append(chart);

  function draw(counts, total, run, active) {
    last = run && { counts, total, run };
    box.classList.toggle("fdx-empty", !run);
    chart.replaceChildren();
    if (!run) return;
    const width = Math.max(220, box.clientWidth);
    const height = Math.max(180, Math.min(290, box.clientHeight || 250));
    chart.setAttribute("viewBox", "0 0 " + width + " " + height);
    chart.setAttribute("width", width);
    chart.setAttribute("height", height);
    const inner = { width: width - LEFT - 6, height: height - TOP - BOTTOM };
    const y = (share) => TOP + inner.height * (1 - share);
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      chart.append(svg("line", { x1: LEFT, x2: width - 6, y1: y(share), y2: y(share), class: share ? "fdx-grid" : "fdx-axis" }));
      if (share * 2 === Math.round(share * 2)) {
        const text = svg("text", { x: LEFT - 7, y: y(share) + 4, class: "fdx-tick", "text-anchor": "end" });
        text.textContent = share * 100 + " %";
        chart.append(text);
      }
    }
    const slot = inner.width / run.numLayers;
    const routed = new Map(run.routed.map((layer, place) => [layer, place]));
    const every = slot > 17 ? 1 : slot > 9 ? 2 : slot > 5 ? 5 : 10;
    for (let layer = 0; layer < run.numLayers; layer += 1) {
      const always = !routed.has(layer);
      const share = total === 0 ? 0 : always ? 1 : counts[routed.get(layer)] / total;
      const x = LEFT + slot * layer + slot * 0.1;
      const bar = svg("rect", { x: x.toFixed(2), width: (slot * 0.8).toFixed(2), y: y(share).toFixed(2), height: (inner.height * share).toFixed(2), rx: Math.min(2, slot / 5), class: always ? "fdx-bar-always" : "fdx-bar" });
      bar.dataset.layer = String(layer + 1);
      bar.dataset.share = share.toFixed(4);
      chart.append(bar);
      if (always && slot > 4) hatch(chart, x, slot * 0.8, y(share), inner.height * share);
      if (active && (always || active.executed[routed.get(layer)])) {
        chart.append(svg("circle", { cx: (x + slot * 0.4).toFixed(2), cy: TOP + inner.height + 6, r: Math.min(2.5, slot / 4), class: "fdx-bar-dot" }));
      }
      if ((layer + 1) % every === 0 || (every === 1)) {
        const text = svg("text", { x: (x + slot * 0.4).toFixed(2), y: height - BOTTOM + 21, class: "fdx-tick", "text-anchor": "middle" });
        text.textContent = String(layer + 1);
        chart.append(text);
      }
      chart.append(svg("rect", { x: (LEFT + slot * layer).toFixed(2), width: slot.toFixed(2), y: TOP, height: inner.height, class: "fdx-bar-hit", "data-layer": layer }));
    }
    const caption = svg("text", { x: LEFT + inner.width / 2, y: height - 1, class: "fdx-tick", "text-anchor": "middle" });
    caption.textContent = "layer";
    chart.append(caption);
    const shares = run.routed.map((layer, place) => layer + 1 + ": " + percent(total ? counts[place] / total : 0)).join(", ");
    chart.setAttribute("aria-label", "Share of " + total + " generated tokens processed by each routed layer. " + shares);
  }

  function hatch(parent, x, width, top, height) {
    const lines = [];
    for (let rise = 4; rise < height + width; rise += 6) {
      const from = Math.min(rise, height);
      const to = Math.max(0, rise - width);
      lines.push("M" + (x + (rise - from)).toFixed(1) + " " + (top + height - from).toFixed(1) + "L" + (x + Math.min(rise, width)).toFixed(1) + " " + (top + height - to).toFixed(1));
    }
    parent.append(svg("path", { d: lines.join(""), class: "fdx-bar-hatch" }));
  }

  chart.addEventListener("pointermove", (event) => {
    const hit = event.target.closest?.(".fdx-bar-hit");
    if (!hit || !last) return;
    const layer = Number(hit.getAttribute("data-layer"));
    const place = last.run.routed.indexOf(layer);
    const count = place < 0 ? last.total : last.counts[place];
    readout.textContent = "layer " + (layer + 1) + (place < 0 ? ", always on" : ": " + count + " of " + last.total + " tokens, " + percent(last.total ? count / last.total : 0));
  });
  chart.addEventListener("pointerleave", () => { readout.textContent = ""; });
  return { draw };
}
