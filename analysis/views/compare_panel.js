// One task's answers: its name, where it stands, and the tokens of one of its inputs at a time. Knows no chart.

function makePanel(about, colour) {
  const box = el("section", "fdx-panel");
  const head = el("header", "fdx-panel-head");
  const name = el("h3", "fdx-panel-name", about.label);
  const facts = el("p", "fdx-panel-facts", "waits");
  const inputs = el("div", "fdx-panel-inputs");
  const title = el("p", "fdx-panel-title");
  const streams = el("div", "fdx-panel-streams");
  name.style.setProperty("--fdx-panel-colour", colour);
  box.setAttribute("aria-label", about.label);
  head.append(name, facts);
  box.append(head, inputs, title, streams);
  const panel = { box, label: about.label, colour, runs: [], counts: [], total: 0, layers: 0, shown: null };

  panel.begin = (words) => {
    const stream = el("div", "fdx-stream");
    stream.setAttribute("role", "group");
    stream.setAttribute("aria-label", about.label + ", " + words + ": generated tokens");
    streams.append(stream);
    const run = { title: words, stream, text: makeSpans(stream), steps: [], head: null };
    panel.runs.push(run);
    const pick = el("button", "fdx-panel-input", String(panel.runs.length));
    pick.type = "button";
    pick.title = words;
    pick.dataset.run = String(panel.runs.length - 1);
    inputs.append(pick);
    inputs.hidden = panel.runs.length < 2;
    panel.show(panel.runs.length - 1);
    return run;
  };

  panel.show = (number) => {
    panel.shown = number;
    panel.runs.forEach((run, i) => { run.stream.hidden = i !== number; });
    inputs.querySelectorAll("button").forEach((pick, i) => pick.setAttribute("aria-pressed", String(i === number)));
    title.textContent = panel.runs[number].title;
  };

  panel.add = (run, steps) => {
    run.text.append(steps, run.head);
    for (const step of steps) {
      run.steps.push(step);
      step.executed.forEach((executed, place) => { panel.counts[place] = (panel.counts[place] || 0) + (executed ? 1 : 0); });
      panel.total += 1;
      panel.layers += step.layers_used;
    }
    facts.textContent = panel.total + (panel.total === 1 ? " token, " : " tokens, ") + (panel.layers / panel.total).toFixed(1) + " layers on average";
  };

  panel.say = (words) => { title.textContent = words; };

  // Outlines the tokens for which a routed layer ran; null takes the outlines away.
  panel.mark = (place) => {
    for (const run of panel.runs) {
      run.text.spans.forEach((span, i) => span.classList.toggle("fdx-marked", place !== null && run.steps[i].executed[place]));
    }
  };

  inputs.addEventListener("click", (event) => {
    const pick = event.target.closest("button");
    if (pick) panel.show(Number(pick.dataset.run));
  });
  inputs.hidden = true;
  return panel;
}
