/* The view of one feature. */

const WARNINGS = {
  dead: "It never fires on these rows, so there is nothing to read.",
  rare: "It fires on so few rows that what looks like a pattern may be chance.",
  dense: "It fires on a large share of all rows. Such features seldom have one meaning.",
  "duplicate-heavy": "It fires again and again in nearly the same contexts, so there is less evidence than its rows suggest.",
  "position-driven": "Where a token stands in its text decides whether it fires, rather than what the text says.",
};
const SCORES = {
  detection: "texts it fires on told from others, by the explanation alone",
  fuzzing: "right marks told from wrong ones, by the explanation",
  simulation: "correlation of activations guessed from the explanation with the real ones",
  intruder: "the odd one out found among its examples; needs no explanation",
  rule: "rows it fires on told from others, by the columns or words of its name",
  embedding: "texts it fires on told from others, by likeness to the explanation",
  steering: "the explanation fits what the feature makes the model say",
};

async function showFeature(feature) {
  const view = byId("view");
  if (!placeOf.has(feature)) {
    const known = feature >= 0 && feature < index.n_components;
    return view.replaceChildren(...message(`Feature ${feature}`, known
      ? "This feature exists, but was not chosen for this page."
      : `There is no such feature; they are numbered from 0 to ${index.n_components - 1}.`));
  }
  const line = lineOf(feature);
  let details;
  try {
    details = await detailsOf(feature);
  } catch (error) {
    if (route.feature !== feature) return undefined;
    return view.replaceChildren(headingOf(line), ...message(null, error.message));
  }
  if (route.feature !== feature) return undefined;  // another was opened while this one was read
  return view.replaceChildren(make("article", { class: "feature" },
    headingOf(line), doubtOf(line), statementOf(feature), scoresOf(details), figuresOf(line, details), warningsOf(line),
    onImages() ? [examplesIn(line, details), effectsOf(details)] : [effectsOf(details), examplesIn(line, details)],
    relatedTo(details)));
}

function message(title, text) {
  return [title && make("h1", { tabindex: "-1" }, title), make("p", { class: "message", role: "alert" }, text)].filter(Boolean);
}

function headingOf(line) {
  const step = (by, sign, name) => {
    const other = neighbour(line.feature, by);
    return make("a", {
      class: "step", "aria-label": name, title: name, href: other === null ? null : `#feature/${other}`,
      "aria-disabled": other === null ? "true" : null, onclick: event => { event.preventDefault(); stepTo(by); },
    }, sign);
  };
  const said = line.label ? make("bdi", null, line.label)
    : line.tokens.length ? sampleOf(line) : make("span", { class: "soft" }, "never fires");
  return make("header", { class: "heading" },
    make("p", { class: "over" }, make("span", null, `Feature ${line.feature}`),
      make("span", { class: "steps" }, step(-1, "←", "Previous feature"), step(1, "→", "Next feature"))),
    make("h1", { tabindex: "-1", class: line.label ? "" : "of-tokens" }, said));
}

/* A note where the words do not tell better than chance where the feature fires. */
function doubtOf(line) {
  return line.doubted ? make("p", { class: "warning" }, make("b", null, "not clearly better than chance"),
    " By its score, the explanation does not clearly tell better than chance where the feature fires.") : null;
}

/* A line a score: the value, its interval, and the baselines it has to beat. */
function scoresOf(details) {
  if (!details.scores.length) return null;
  const lines = details.scores.map(score => {
    const { value, low, high } = score;
    const beaten = score.baselines.map(([, one]) => one);
    const ends = [value, low, high, ...beaten].filter(x => x !== null);
    const least = Math.min(0, ...ends), most = Math.max(1, ...ends);
    const x = at => 4 + 152 * (at - least) / (most - least);
    const picture = draw("svg", { viewBox: "0 0 160 20", width: 160, height: 20, "aria-hidden": "true" },
      draw("line", { class: "grid", x1: 4, x2: 156, y1: 10, y2: 10 }),
      beaten.map(at => draw("line", { class: "baseline", x1: x(at), x2: x(at), y1: 3, y2: 17 })),
      low !== null && high !== null && draw("line", { class: "interval", x1: x(low), x2: x(high), y1: 10, y2: 10 }),
      value !== null && draw("circle", { class: "value", cx: x(value), cy: 10, r: 4.5 }));
    return make("div", { class: "score", role: "listitem" },
      make("span", { class: "name", "data-tip": SCORES[score.name] ?? null }, score.name), picture,
      make("b", null, value === null ? "–" : value.toFixed(2)), make("span", { class: "soft" }, scoreNote(score)));
  });
  return make("div", { class: "scores" }, make("div", { role: "list", "aria-label": "Scores of the explanation" }, lines),
    make("p", { class: "soft" }, details.source && `Source of the explanation: ${details.source}. `, "Lines are intervals of 95 %; marks across them are baselines."));
}

const BASELINES = { random: "another feature's explanation", shuffled: "shuffled answers" };

function scoreNote({ value, low, high, baselines, n, n_failed: failed, note, quantiles }) {
  const most = Math.max(...baselines.map(pair => pair[1]));
  return [
    note,
    low !== null && high !== null && `${low.toFixed(2)} to ${high.toFixed(2)}`,
    ...baselines.map(([name, one]) => `${BASELINES[name] ?? name} ${one.toFixed(2)}`),
    quantiles.length > 0 && `strong to weak ${quantiles.map(one => one === null ? "–" : one.toFixed(1)).join(" ")}`,
    failed > 0 && `${failed} of ${plural(n + failed, "answer")} unreadable`,
    value !== null && baselines.length > 0 && (low ?? value) <= most && "not clearly above its baseline",
  ].filter(Boolean).join(" · ");
}

function figuresOf(line, details) {
  const figures = [
    [percent(line.density), `of rows (${count(details.active)})`],
    [count(details.texts), (onImages() ? "image" : "text") + (details.texts === 1 ? "" : "s")],
    !onImages() && [count(details.unique), "different contexts"],
    [short(line.largest), "strongest activation"],
    [short(details.mean), "mean when it fires"],
  ];
  return make("ul", { class: "figures" }, figures.filter(Boolean).map(([value, name]) => make("li", null, make("b", null, value), " ", name)));
}

function warningsOf(line) {
  return line.flags.map(flag => {
    const name = index.flags[flag];
    return make("p", { class: "warning" }, make("b", null, name), " ", WARNINGS[name] || "");
  });
}

/* Tokens as bars; of promoted and suppressed ones the longest bar of both sides is full. */
function tokenBars(title, hint, pairs, most, show, kind) {
  if (!pairs.length) return null;
  return make("section", { class: `bars ${kind}` }, make("h2", null, title), make("p", { class: "soft" }, hint),
    make("ul", null, pairs.slice(0, 10).map(([token, value]) => make("li", { "--share": Math.abs(value) / most },
      chip(token), make("span", { class: "bar-line" }), make("span", { class: "amount" }, show(value))))));
}

function effectsOf(details) {
  const { tokens, promoted, suppressed, counts } = details;
  const effect = Math.max(...[...promoted, ...suppressed].map(pair => Math.abs(pair[1])), 1e-30);
  const digits = effect < 0.1 ? short : number => number.toFixed(effect < 10 ? 2 : 1);
  const signed = value => `${value > 0 ? "+" : value < 0 ? "−" : ""}${digits(Math.abs(value))}`;
  return make("div", { class: "panels" },
    tokenBars(onImages() && nPatches() > 1 ? "Where it fires" : "Fires on", "share of all its activation", onImages() && nPatches() === 1 && tokens.every(([token]) => /^\d+$/.test(token)) ? [] : tokens, Math.max(...tokens.map(t => t[1]), 1e-30), percent, "warm"),
    counts.length > 0 && make("section", null, make("h2", null, "How strongly"), make("p", { class: "soft" }, "rows by activation, without those where it is silent"), activationFigure(details, 150),
      make("p", { class: "soft caption" }, "how often, among all features"), densityFigure({ height: 110, mine: index.columns.density[placeOf.get(details.feature)] })),
    tokenBars("Makes likelier", "next tokens whose logits its direction raises", promoted, effect, signed, "up"),
    tokenBars("Makes less likely", "next tokens whose logits it lowers", suppressed, effect, signed, "down"));
}

function examplesIn(line, details) {
  if (!details.groups.length) return null;
  const quantiles = details.groups.filter(group => group.kind === "quantile").length;
  let part = 0;
  const groups = details.groups.map(group => {
    part += group.kind === "quantile";
    const [title, hint] = groupTitle(group, part, quantiles);
    return make("section", { class: `group ${group.kind}` },
      make("h3", null, title, " ", make("span", { class: "soft" }, hint)),
      make("ol", null, group.examples.map(example => exampleLine(example, line.largest))));
  });
  const all = onImages() ? overlayButton() : make("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => {
    const whole = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", String(whole));
    for (const example of document.querySelectorAll(".example")) setExpanded(example, whole);
  } }, "whole windows");
  return make("section", { class: "examples" }, make("div", { class: "title-line" }, make("h2", null, "Examples"),
    !(onImages() && nPatches() === 1) && make("span", { class: onImages() ? "legend soft light" : "legend soft", "aria-hidden": "true" }, onImages() ? "silent" : "weak", make("i"), "strong"), all), groups);
}

function groupTitle(group, part, quantiles) {
  if (group.kind === "strongest") return ["Strongest", onImages() ? nPatches() > 1 && "one patch per image" : "one a text, all different"];
  if (group.kind === "silent" && onImages()) return ["Silent", "images in which it fires nowhere"];
  if (group.kind === "silent") return ["Silent", "the token it fires on most is there, but it does not fire"];
  const names = { 1: "Strong", [quantiles]: "Weak", [(quantiles + 1) / 2]: "Middling" };
  const range = `${short(group.low, 2)} to ${short(group.high, 2)}`;
  return [quantiles > 1 && names[part] || `Part ${part} of ${quantiles}`, `random places from ${range}: about ${percent(group.share)} of its rows`];
}

function relatedTo(details) {
  const lists = [
    ["Similar directions", "cosine of the two directions", details.nearest, 1, r => r.toFixed(2)],
    ["Fire together", "rows on which both fire, of those with either", details.coactive, 2, percent],
  ];
  return make("div", { class: "panels related" }, lists.map(([title, hint, related, at, show]) => {
    const some = related.filter(other => other[at] !== null).slice(0, 8);
    return some.length > 0 && make("section", null, make("h2", null, title), make("p", { class: "soft" }, hint),
      make("ul", { class: "links" }, some.map(other => make("li", null,
        featureLink(other[0]), make("span", { class: "amount", "data-tip": other[3] === null ? null :
          `fires on ${percent(other[3])} of this feature's rows` }, show(other[at]))))));
  }));
}

/* A feature's number and what it stands for, as a link where it is on this page. */
function featureLink(feature) {
  if (!placeOf.has(feature)) return make("span", { class: "soft" }, `${feature} (not on this page)`);
  const line = lineOf(feature);
  const said = line.label ? make("bdi", { class: "meaning" }, line.label) : sampleOf(line, 3);
  return make("a", { href: `#feature/${feature}` }, make("span", { class: "number" }, String(feature)), " ", said);
}
