// The answer as focusable, coloured tokens. Real characters stay in the page as text, so selecting and copying gives them
// back; labels for hidden ones are drawn by style sheets and cannot be selected. Knows no card, no map and no trace format.

function makeSpans(stream) {
  const spans = [];

  function paint(span, step, run) {
    const background = rampColour(depthPlace(step.layers_used, run.alwaysOn, run.numLayers));
    span.style.backgroundColor = background;
    span.style.color = inkOn(background);
    span.style.setProperty("--depth", depthPlace(step.layers_used, run.alwaysOn, run.numLayers).toFixed(3));
    span.dataset.layers = String(step.layers_used);
  }

  function label(text, kind) {
    const node = el("span", "fdx-glyph" + (kind ? " fdx-" + kind : ""));
    node.dataset.label = text;
    return node;
  }

  // A space before a word stays outside the coloured box: at the end of a line it would leave a sliver of colour behind.
  const LED_BY_SPACE = /^ [^\s]/u;

  function fill(span, step) {
    if (step.text === "") {
      const ended = step.stop === "end_of_turn";
      span.append(label(ended ? "end" : "byte", ended ? "end" : "byte"));
      return;
    }
    const led = LED_BY_SPACE.test(step.text);
    for (const [i, piece] of piecesOf(step.text).entries()) {
      if (piece.label === null) {
        span.append(led && i === 0 ? piece.text.slice(1) : piece.text);
        continue;
      }
      const white = piece.text === "\n" || piece.label.startsWith("␣") || piece.text === "\t";
      const glyph = label(piece.label, white ? "white" : "code");
      if (piece.text === "\n") {
        span.append(glyph, "\n");
      } else {
        glyph.append(el("span", "fdx-raw", piece.text));
        span.append(glyph);
      }
    }
  }

  function spoken(step, number, run) {
    const kind = step.is_prompt ? "prompt token" : "token";
    return kind + " " + number + ", " + tokenName(step) + ", " + step.layers_used + " of " + run.numLayers + " layers";
  }

  function append(steps, run) {
    const fragment = document.createDocumentFragment();
    for (const step of steps) {
      const span = el("span", "fdx-token" + (step.is_prompt ? " fdx-prompt" : ""));
      span.setAttribute("role", "button");
      span.setAttribute("aria-pressed", "false");
      span.setAttribute("aria-label", spoken(step, spans.length + 1, run));
      span.tabIndex = spans.length === 0 ? 0 : -1;
      span.dataset.place = String(spans.length);
      paint(span, step, run);
      fill(span, step);
      spans.push(span);
      if (LED_BY_SPACE.test(step.text)) fragment.append(" ");
      fragment.append(span);
    }
    const atEnd = stream.scrollHeight - stream.scrollTop - stream.clientHeight < 24;
    stream.append(fragment);
    if (atEnd) stream.scrollTop = stream.scrollHeight;
  }

  function clear() {
    spans.length = 0;
    stream.replaceChildren();
    stream.scrollTop = 0;
  }

  // The one tab stop moves with the reader.
  function focus(place) {
    for (const span of stream.querySelectorAll('.fdx-token[tabindex="0"]')) span.tabIndex = -1;
    spans[place].tabIndex = 0;
    spans[place].focus({ preventScroll: true });
    reveal(place);
  }

  function reveal(place) {
    const box = stream.getBoundingClientRect();
    const token = spans[place].getBoundingClientRect();
    if (token.top < box.top + 4) stream.scrollTop -= box.top + 12 - token.top;
    else if (token.bottom > box.bottom - 4) stream.scrollTop += token.bottom - box.bottom + 12;
  }

  // The token on the next line up or down that lies nearest.
  function beside(place, direction) {
    const from = spans[place].getBoundingClientRect();
    const middle = (from.left + from.right) / 2;
    let best = place;
    let bestDistance = Infinity;
    let line = null;
    for (let i = place + direction; i >= 0 && i < spans.length; i += direction) {
      const box = spans[i].getBoundingClientRect();
      if (Math.abs(box.top - from.top) < 6) continue;
      if (line === null) line = box.top;
      if (Math.abs(box.top - line) > 6) break;
      const distance = Math.abs((box.left + box.right) / 2 - middle);
      if (distance < bestDistance) [best, bestDistance] = [i, distance];
    }
    return best;
  }

  function placeOf(target) {
    const span = target instanceof Element ? target.closest(".fdx-token") : null;
    return span && stream.contains(span) ? Number(span.dataset.place) : null;
  }

  return { spans, append, clear, focus, reveal, beside, placeOf };
}

function tokenName(step) {
  if (step.text !== "") return "‘" + visibleText(step.text) + "’";
  return step.stop === "end_of_turn" ? "end of turn" : "unfinished character";
}
