// The legend: every depth the model can have, with its colour, its number, and how many tokens used it.

function makeLegend(box) {
  let shown = "";
  let cells = [];

  function range(alwaysOn, numLayers) {
    const wanted = alwaysOn + "/" + numLayers;
    if (wanted === shown || !(numLayers > 0 && numLayers >= alwaysOn)) return;
    shown = wanted;
    const list = el("div", "fdx-legend-cells");
    list.setAttribute("role", "img");
    list.setAttribute("aria-label", "Legend: light to dark blue for " + alwaysOn + " to " + numLayers + " layers used");
    cells = [];
    for (let depth = alwaysOn; depth <= numLayers; depth += 1) {
      const cell = el("div", "fdx-legend-cell");
      const background = rampColour(depthPlace(depth, alwaysOn, numLayers));
      const bar = el("div", "fdx-legend-bar");
      const swatch = el("div", "fdx-swatch", String(depth));
      swatch.style.backgroundColor = background;
      swatch.style.color = inkOn(background);
      cell.append(bar, swatch);
      cells.push({ depth, bar, cell });
      list.append(cell);
    }
    const caption = el("div", "fdx-legend-caption");
    caption.append(el("span", "", "layers used to produce a token"), el("span", "", "bars: how many tokens"));
    box.replaceChildren(list, caption);
  }

  function draw(steps, run) {
    if (run) range(run.alwaysOn, run.numLayers);
    const counts = new Map();
    for (const step of steps) counts.set(step.layers_used, (counts.get(step.layers_used) || 0) + 1);
    const most = Math.max(1, ...counts.values());
    for (const { depth, bar, cell } of cells) {
      const number = counts.get(depth) || 0;
      bar.style.height = (number ? Math.max(2, (22 * number) / most) : 0).toFixed(1) + "px";
      cell.title = depth + " layers: " + number + (number === 1 ? " token" : " tokens");
    }
  }

  return { range, draw };
}
