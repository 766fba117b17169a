// One shared card with everything known about a token. Knows nothing of how a token is chosen.

function makeCard(root, card) {
  let anchor = null;

  function fact(list, name, value, title) {
    const item = el("div", "fdx-fact");
    item.append(el("dt", "", name), el("dd", "", value));
    if (title) item.title = title;
    list.append(item);
  }

  function strip(step, run) {
    const box = el("div", "fdx-strip");
    const ran = [];
    const skipped = [];
    const cells = el("div", "fdx-cells");
    cells.style.setProperty("--count", String(run.routed.length));
    cells.classList.toggle("fdx-cells-dense", run.routed.length > 18);
    run.routed.forEach((layer, place) => {
      const gate = step.gates[place];
      const executed = step.executed[place];
      (executed ? ran : skipped).push(layer + 1);
      const cell = el("div", "fdx-cell " + (executed ? "fdx-ran" : "fdx-skipped"));
      cell.title = "layer " + (layer + 1) + (executed ? " ran" : " skipped") + ", gate " + gate.toFixed(3);
      const bar = el("div", "fdx-cell-bar");
      const level = el("div", "fdx-cell-level");
      level.style.height = Math.max(3, gate * 100).toFixed(1) + "%";
      bar.append(level);
      cell.append(el("div", "fdx-cell-layer", String(layer + 1)), bar);
      cell.append(el("div", "fdx-cell-gate", gate >= 0.995 ? "1.0" : gate.toFixed(2).slice(1)));
      cells.append(cell);
    });
    cells.style.setProperty("--threshold", String(run.threshold));
    const words = el("p", "fdx-words");
    if (run.always.length) words.append(el("span", "fdx-key fdx-key-always"), "always " + ranges(run.always) + "  ");
    words.append(el("span", "fdx-key fdx-key-ran"), "ran " + (ranges(ran) || "none") + "  ");
    words.append(el("span", "fdx-key fdx-key-skipped"), "skipped " + (ranges(skipped) || "none"));
    box.append(cells, words);
    return box;
  }

  function alternatives(step) {
    const list = el("ol", "fdx-top");
    for (const candidate of step.top.slice(0, 5)) {
      const share = candidate.logprob === null ? 0 : Math.exp(candidate.logprob);
      const item = el("li", candidate.token_id === step.token_id ? "fdx-chosen" : "");
      const bar = el("span", "fdx-top-bar");
      const fill = el("span", "fdx-top-fill");
      fill.style.width = (share * 100).toFixed(1) + "%";
      bar.append(fill);
      const name = el("span", "fdx-top-text", candidate.text === "" ? "id " + candidate.token_id : visibleText(candidate.text));
      item.append(name, bar, el("span", "fdx-top-share", percent(share, 1)));
      if (candidate.token_id === step.token_id) name.append(el("span", "fdx-sr", " (chosen)"));
      list.append(item);
    }
    return list;
  }

  function fill(step, number, run, pinned) {
    const head = el("div", "fdx-card-head");
    const chip = el("span", "fdx-card-token", step.text === "" ? tokenName(step) : visibleText(step.text));
    const background = rampColour(depthPlace(step.layers_used, run.alwaysOn, run.numLayers));
    chip.style.backgroundColor = background;
    chip.style.color = inkOn(background);
    head.append(chip, el("span", "fdx-card-id", (step.is_prompt ? "prompt token " : "token ") + number + " · id " + step.token_id));
    if (pinned) head.append(el("span", "fdx-card-pin", "pinned"));
    const facts = el("dl", "fdx-facts");
    fact(facts, "layers used", step.layers_used + " of " + run.numLayers, "the forward pass that produced this token");
    fact(facts, "probability", step.logprob === null ? "–" : percent(Math.exp(step.logprob), 1));
    fact(facts, "entropy", step.entropy === null ? "–" : step.entropy.toFixed(2) + " nats");
    fact(facts, "time", (step.seconds * 1000).toFixed(step.seconds < 0.01 ? 2 : 0) + " ms");
    const parts = [head, facts];
    if (run.routed.length) parts.push(el("h4", "fdx-card-title", "Gate of every routed layer"), strip(step, run));
    if (step.top.length) parts.push(el("h4", "fdx-card-title", "Most likely here"), alternatives(step));
    card.replaceChildren(...parts);
    card.classList.toggle("fdx-pinned", pinned);
  }

  // Below the anchor, above it where the window ends, and never over the edges of the component.
  function settle() {
    if (card.hidden || !anchor) return;
    const docked = root.clientWidth < 560;
    card.classList.toggle("fdx-docked", docked);
    if (docked) {
      card.style.removeProperty("left");
      card.style.removeProperty("top");
      return;
    }
    const box = root.getBoundingClientRect();
    const at = anchor();
    const width = card.offsetWidth;
    const left = Math.min(Math.max(0, at.left - box.left - 12), box.width - width);
    const below = at.bottom - box.top + 8;
    const above = at.top - box.top - 8 - card.offsetHeight;
    const roomBelow = window.innerHeight - at.bottom > card.offsetHeight + 16;
    const roomAbove = at.top > card.offsetHeight + 16;
    card.style.left = left + "px";
    card.style.top = (roomBelow || !roomAbove ? below : above) + "px";
  }

  function show(step, number, run, pinned, where) {
    fill(step, number, run, pinned);
    anchor = where;
    card.hidden = false;
    settle();
  }

  function hide() {
    card.hidden = true;
    anchor = null;
  }

  return { show, hide, settle };
}
