// Token text -> pieces that a reader can see, and depth -> colour. Knows no page and no trace.
// The rules are those of analysis/glyphs.py and analysis/ramp.py; RAMP holds the anchors of the latter.

const MANY_SPACES = 8;
const NAMED = { "\n": "↵", "\t": "⇥", "\r": "CR" };
const SHAPING = /[\u200c\u200d\ufe0e\ufe0f]/u;
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u200c\u200d\ufe0e\ufe0f]/u;
const ONLY_WHITE = /^[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]*$/u;

function codePoint(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

function piecesOf(text) {
  const characters = Array.from(text);
  const onlyWhite = ONLY_WHITE.test(text);
  const hasVisible = characters.some((character) => !HIDDEN.test(character));
  const found = [];
  let plain = "";
  for (let place = 0; place < characters.length; ) {
    const character = characters[place];
    let run = 1;
    let label = null;
    if (character === " ") {
      while (characters[place + run] === " ") run += 1;
      if (onlyWhite || run > MANY_SPACES) label = run > MANY_SPACES ? "␣×" + run : "␣".repeat(run);
    } else if (HIDDEN.test(character) && !(SHAPING.test(character) && hasVisible)) {
      label = NAMED[character] || codePoint(character);
    } else if (onlyWhite) {
      label = codePoint(character);
    }
    const stretch = characters.slice(place, place + run).join("");
    if (label === null) {
      plain += stretch;
    } else {
      if (plain) found.push({ text: plain, label: null });
      plain = "";
      found.push({ text: stretch, label });
    }
    place += run;
  }
  if (plain) found.push({ text: plain, label: null });
  return found;
}

function visibleText(text) {
  return piecesOf(text).map((piece) => piece.label ?? piece.text.replaceAll(" ", "␣")).join("");
}

function channels(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

function rampColour(place) {
  const scaled = Math.min(1, Math.max(0, place)) * (RAMP.length - 1);
  const lower = Math.min(Math.floor(scaled), RAMP.length - 2);
  const share = scaled - lower;
  const [low, high] = [channels(RAMP[lower]), channels(RAMP[lower + 1])];
  return "#" + low.map((value, i) => Math.floor(value + (high[i] - value) * share + 0.5).toString(16).padStart(2, "0")).join("");
}

function luminance(hex) {
  const [red, green, blue] = channels(hex).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

// Black or white, whichever contrasts more.
function inkOn(hex) {
  const background = luminance(hex);
  return (background + 0.05) / 0.05 >= 1.05 / (background + 0.05) ? "#000000" : "#ffffff";
}

function depthPlace(layers, alwaysOn, numLayers) {
  return numLayers <= alwaysOn ? 1 : Math.min(1, Math.max(0, (layers - alwaysOn) / (numLayers - alwaysOn)));
}

function el(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function svg(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function percent(share, digits = 0) {
  return (share * 100).toFixed(digits) + " %";
}

// [1,2,3,5] -> "1–3, 5"
function ranges(numbers) {
  const parts = [];
  for (let i = 0; i < numbers.length; ) {
    let end = i;
    while (end + 1 < numbers.length && numbers[end + 1] === numbers[end] + 1) end += 1;
    parts.push(end === i ? String(numbers[i]) : numbers[i] + "–" + numbers[end]);
    i = end + 1;
  }
  return parts.join(", ");
}
