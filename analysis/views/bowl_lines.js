// One curve a panel over the layers: share of its tokens that each layer processed. Knows no trace format.
// Pointing at a curve, or at its name, dims the others; a click on a point, or Enter, reports its panel and layer.

function makeBowlLines(box, readout, onPick) {
  const LEFT = 40;
  const RIGHT = 8;
  const TOP = 8;
  const BOTTOM = 34;
  const chart = svg("svg", { class: "fdx-bowl-svg", role: "img" });
  const names = el("div", "fdx-names");
  box.append(chart, names);
  let curves = [];
  let bright = null;

  // panels: [{ label, colour, counts, total }] in order; run: what all have in common.
  function draw(panels, run) {
    box.classList.toggle("fdx-empty", !run);
    chart.replaceChildren();
    curves = [];
    if (!run) return names.replaceChildren();
    const width = Math.max(240, box.clientWidth);
    const height = 260;
    for (const [name, value] of Object.entries({ viewBox: "0 0 " + width + " " + height, width, height })) chart.setAttribute(name, value);
    const inner = { width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
    const first = run.routed[0];
    const last = run.routed[run.routed.length - 1];
    const x = (layer) => LEFT + (inner.width * (layer - first)) / Math.max(1, last - first);
    const y = (share) => TOP + inner.height * (1 - share);
    axes(x, y, run, width, height, inner);
    const words = [];
    panels.forEach((panel, number) => {
      if (!panel.total) return;
      const group = svg("g", { class: "fdx-curve", "data-panel": number });
      const places = run.routed.map((layer, place) => [x(layer), y(panel.counts[place] / panel.total)]);
      const path = places.map(([px, py], i) => (i ? "L" : "M") + px.toFixed(1) + " " + py.toFixed(1)).join("");
      group.append(svg("path", { d: path, class: "fdx-curve-wide" }), svg("path", { d: path, class: "fdx-curve-line", stroke: panel.colour }));
      run.routed.forEach((layer, place) => {
        const point = svg("circle", { cx: places[place][0].toFixed(1), cy: places[place][1].toFixed(1), r: 3.4, fill: panel.colour, class: "fdx-curve-point", "data-panel": number, "data-place": place });
        group.append(point);
      });
      chart.append(group);
      curves[number] = group;
      words.push(panel.label + ": " + run.routed.map((layer, place) => layer + 1 + " " + percent(panel.counts[place] / panel.total)).join(", "));
    });
    chart.setAttribute("aria-label", "Share of generated tokens that each routed layer processed. " + words.join(". "));
    names.replaceChildren(...panels.map(nameOf));
    brighten(bright);
  }

  function axes(x, y, run, width, height, inner) {
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      chart.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(share), y2: y(share), class: share ? "fdx-grid" : "fdx-axis" }));
      if (share * 2 === Math.round(share * 2)) chart.append(tick(LEFT - 7, y(share) + 4, share * 100 + " %", "end"));
    }
    const every = inner.width / run.routed.length > 22 ? 1 : inner.width / run.routed.length > 11 ? 2 : 5;
    for (const layer of run.routed) {
      if ((layer + 1) % every === 0) chart.append(tick(x(layer), height - BOTTOM + 18, String(layer + 1), "middle"));
    }
    chart.append(tick(LEFT + inner.width / 2, height - 2, "routed layer", "middle"));
  }

  function tick(x, y, words, anchor) {
    const text = svg("text", { x, y, class: "fdx-tick", "text-anchor": anchor });
    text.textContent = words;
    return text;
  }

  function nameOf(panel, number) {
    const name = el("button", "fdx-name");
    name.type = "button";
    name.dataset.panel = String(number);
    const dot = el("span", "fdx-name-dot");
    dot.style.background = panel.colour;
    name.append(dot, panel.label);
    return name;
  }

  function brighten(number) {
    bright = number;
    curves.forEach((curve, i) => curve?.classList.toggle("fdx-dim", number !== null && i !== number));
  }

  const panelOf = (target) => {
    const found = target instanceof Element ? target.closest("[data-panel]") : null;
    return found ? Number(found.dataset.panel) : null;
  };
  box.addEventListener("pointerover", (event) => {
    const number = panelOf(event.target);
    if (number !== bright) brighten(number);
    const title = event.target.closest?.(".fdx-curve-point");
    readout.textContent = title ? onPick("name", number, Number(title.dataset.place)) : "";
  });
  box.addEventListener("pointerleave", () => { brighten(null); readout.textContent = ""; });
  names.addEventListener("focusin", (event) => brighten(panelOf(event.target)));
  names.addEventListener("focusout", () => brighten(null));
  box.addEventListener("click", (event) => {
    const number = panelOf(event.target);
    if (number === null) return;
    const point = event.target.closest(".fdx-curve-point");
    onPick("open", number, point ? Number(point.dataset.place) : null);
  });
  return { draw };
}
