/* Tokens and examples as a reader sees them. */

const BLANK = /^[\s\p{Cf}\p{M}\u3164\u2800]*$/u;
const BEFORE = 12, AFTER = 7;  // pieces around the strongest that an example shows at first

/* A token on its own: what would be invisible has a sign. */
function signs(token) {
  if (token === "") return [make("i", null, "empty")];
  if (BLANK.test(token)) {
    return [...token].map(c => make("i", null, c === " " ? "␣" : `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`));
  }
  const [, before, inner, after] = token.match(/^( *)(.*?)( *)$/su);
  const blank = spaces => spaces && make("i", null, "␣".repeat(spaces.length));
  return [blank(before), ...lined(inner), blank(after)].filter(Boolean);
}

/* Line ends are signs, and paler than what was written. */
function lined(text) {
  return text.split(/([↵␍→])/u).filter(Boolean).map(
    piece => /^[↵␍→]$/u.test(piece) ? make("i", null, piece) : piece);
}

const chip = token => make("bdi", { class: "token" }, signs(token));

/* One example: its activation, and the text coloured by how strongly each piece fires. */
function exampleLine(example, largest) {
  if (example.heat) return imageLine(example, largest);
  const { tokens, levels, peak, cut } = example;
  const low = Math.max(0, peak - BEFORE), high = Math.min(tokens.length, peak + AFTER + 1);
  const far = i => i < low || i >= high;
  const pieces = tokens.map((token, i) => {
    const share = levels[i] / 255;
    if (!share) return make("span", { class: far(i) && "far" }, lined(token));
    const value = i === peak ? short(example.activation) : short(share * largest, 2);
    // A space before a word stays without colour, which it would leave behind where the line wraps.
    const space = BLANK.test(token) ? "" : token.match(/^ */)[0];
    return make("span", { class: far(i) && "far" }, space, make("mark", {
      class: i === peak && "peak", "--a": (0.12 + 0.88 * share).toFixed(2), "data-tip": value,
    }, lined(token.slice(space.length))));
  });
  const dots = kind => make("span", { class: `dots ${kind}` }, "…");
  const hidden = low > 0 || high < tokens.length;
  const where = typeof example.text === "number" ? `text ${count(example.text)}` : example.text;
  const line = make("li", { class: isHit(tokens) ? "example hit whole" : "example" },
    make("span", { class: "value" }, example.activation > 0 ? short(example.activation) : "0"),
    make("p", { class: "text", dir: "auto" },
      low > 0 && !(cut & 1) && dots("near"), cut & 1 && dots("end"), pieces, cut & 2 && dots("end"),
      high < tokens.length && !(cut & 2) && dots("near")),
    columnsLine(index.columns_of_texts, lineOfText.get(example.text)),
    make("span", { class: "where" }, where));
  if (hidden) {
    const button = make("button", {
      class: "more", type: "button", "aria-expanded": String(line.classList.contains("whole")), "aria-label": "Show more of this text",
      onclick: () => setExpanded(line, !line.classList.contains("whole")),
    }, "⋯");
    line.append(button);
  }
  return line;
}

function setExpanded(line, whole) {
  line.classList.toggle("whole", whole);
  line.querySelector(".more")?.setAttribute("aria-expanded", String(whole));
}

/* Values of activations and bars, beside the pointer or the finger. */
function showTip(event) {
  const tip = document.getElementById("tip"), element = event.target.closest?.("[data-tip]");
  tip.hidden = !element;
  if (!element) return;
  tip.textContent = element.dataset.tip;
  const box = element.getBoundingClientRect();
  const left = Math.min(Math.max(event.clientX - tip.offsetWidth / 2, 4), innerWidth - tip.offsetWidth - 4);
  const above = Math.min(box.top, event.clientY - 6) - tip.offsetHeight - 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : Math.max(box.bottom, event.clientY + 12) + 6}px`;
}
