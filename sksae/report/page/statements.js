/* Statements about a target: words, effects on texts that nobody had read, and such texts. */

const LONG = 280;  // characters of a text that are shown at first

function showStatements(feature) {
  const { statements } = index, survivors = statements.filter(line => line.survives).length;
  const scale = Math.max(0.1, ...statements.flatMap(line => [line.low, line.high, line.effect].map(x => Math.abs(x ?? 0))));
  byId("view").replaceChildren(make("article", { class: "statements" },
    make("h1", { tabindex: "-1" }, "Statements"),
    make("p", { class: "lead" }, !statements.length ? "No words go along with the target. "
      : `${survivors} of ${plural(statements.length, "statement")} ${survivors === 1 ? "survives" : "survive"} on texts that were held out when ` +
        "features were found and words were written. Each says that texts that have what the words say differ from the others. Lines are intervals of 95 %."),
    make("ol", { class: "statement-list" }, statements.map(line => statementCard(line, scale)))));
  const chosen = feature === null ? null : byId(`statement-${feature}`);
  if (chosen) {
    chosen.querySelector("details")?.setAttribute("open", "");
    chosen.scrollIntoView();
    chosen.classList.add("chosen");
  }
}

function statementCard(line, scale) {
  const more = (line.effect ?? 0) >= 0, n = line.for.length, m = line.against.length;
  return make("li", { class: `statement ${line.survives ? "survives" : "fails"}`, id: `statement-${line.feature}` },
    make("h2", null, make("bdi", null, line.text), " ",
      make("span", { class: "verdict" }, line.survives ? "survives" : "does not survive")),
    make("div", { class: "effect-line" }, effectFigure(line, scale),
      make("span", null, make("b", null, signed(line.effect)), " ",
        make("span", { class: "soft" }, line.low === null ? "" : `${signed(line.low)} to ${signed(line.high)}`))),
    make("p", { class: "soft" }, statementFacts(line).join(" · ")),
    placeOf.has(line.feature)
      ? make("p", { class: "of-feature" }, "words of feature ", featureLink(line.feature)) : null,
    index.tested_on.strings.length > 0 && n + m > 0 && make("details", null,
      make("summary", null, "Some texts that have it"),
      make("div", { class: "sides" },
        textSide(`For: ${line.class ?? (more ? "a higher value" : "a lower value")}`, line.for),
        textSide("Against", line.against))));
}

const signed = value => value === null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

function statementFacts(line) {
  const of = line.class === null ? "" : ` of ${line.class}`;
  return [
    `${plural(line.n_texts, "text")} ${line.n_texts === 1 ? "has" : "have"} it`,
    `mean${of} ${short(line.with)} with, ${short(line.without)} without`,
    `p ${short(line.p, 2)}, corrected for ${plural(index.statements.length, "statement")}`,
    line.found !== null && `effect of the feature when it was found ${signed(line.found)}`,
    line.f1 !== null && `words tell where the feature fires: F1 ${line.f1.toFixed(2)}` +
      (line.f1_chance === null ? "" : `, chance ${line.f1_chance.toFixed(2)}`) +
      (line.f1_chance !== null && line.f1 <= line.f1_chance ? " (no better)" : ""),
  ].filter(Boolean);
}

function effectFigure({ effect, low, high }, scale) {
  const x = value => 110 + 104 * Math.min(1, Math.max(-1, value / scale));
  return draw("svg", { viewBox: "0 0 220 22", width: 220, height: 22, role: "img",
    "aria-label": `effect ${signed(effect)}, from ${signed(low)} to ${signed(high)}` },
    draw("line", { class: "grid", x1: 4, x2: 216, y1: 11, y2: 11 }),
    draw("line", { class: "baseline", x1: 110, x2: 110, y1: 2, y2: 20 }),
    low !== null && high !== null && draw("line", { class: "interval", x1: x(low), x2: x(high), y1: 11, y2: 11 }),
    effect !== null && draw("circle", { class: "value", cx: x(effect), cy: 11, r: 5 }));
}

function textSide(title, texts) {
  const { tested_on: tested } = index;
  return make("section", null, make("h3", null, title),
    texts.length === 0 && make("p", { class: "soft" }, "none"),
    make("ol", null, texts.map(number => {
      const at = tested.texts.indexOf(number), text = tested.strings[at], cut = text.length > LONG;
      const body = make("p", { class: "text", dir: "auto" }, cut ? `${text.slice(0, LONG)}…` : text);
      const button = cut && make("button", { type: "button", class: "chip", onclick: () => {
        body.textContent = text;
        button.remove();
      } }, "whole text");
      return make("li", null, body, columnsLine(tested, at), button);
    })));
}

/* The columns of the user's frame beside a text. */
function columnsLine({ names, values }, at) {
  if (at === undefined || at < 0 || !names.length) return null;
  const cells = names.map((name, i) => [name, values[i][at]]).filter(([, value]) => value !== null);
  return make("dl", { class: "columns" }, cells.map(([name, value]) =>
    make("div", null, make("dt", null, name), make("dd", { dir: "auto" }, typeof value === "number" && !Number.isInteger(value) ? count(value) : String(value)))));
}

/* The statement that a feature has, as a line of its view. */
function statementOf(feature) {
  const line = index.statements.find(one => one.feature === feature);
  return line && make("p", { class: `statement-link ${line.survives ? "survives" : "fails"}` },
    make("a", { href: `#statements/${feature}` }, `Its words are a statement that ${line.survives ? "survives" : "does not survive"}: effect ${signed(line.effect)}`));
}

function survivingStatements() {
  const { statements } = index, lines = statements.filter(line => line.survives);
  if (!statements.length) return null;
  return make("section", { class: "survivors" }, make("h2", null, "Statements"),
    make("p", { class: "soft" }, `${lines.length} of ${plural(statements.length, "statement")} ${lines.length === 1 ? "survives" : "survive"} on held-out texts.`),
    make("ul", { class: "links" }, lines.slice(0, 12).map(line => make("li", null,
      make("a", { href: `#statements/${line.feature}` }, make("bdi", { class: "meaning" }, line.text)),
      make("span", { class: "amount" }, signed(line.effect))))),
    lines.length > 12 && make("p", null, make("a", { href: "#statements" }, `all ${lines.length}`)));
}
