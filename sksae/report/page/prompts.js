/* Prompts: which features fire on which of their tokens. */

const MANY = 0.1;          // a feature that fires on more rows says little about one token
const MOST_FEATURES = 24;  // rows of the picture
const MOST_HERE = 8;       // of them, on the chosen token

const prompting = { dense: false };

function showPrompt(number, token) {
  const view = byId("view"), prompt = index.prompts[number];
  if (!prompt) {
    return view.replaceChildren(...message("Prompts", index.prompts.length
      ? `There is no prompt ${number}.` : "This page was written without prompts."));
  }
  const entries = entriesOf(prompt);
  const chosen = token ?? strongestToken(entries);
  view.replaceChildren(make("article", { class: "prompt" },
    make("h1", { tabindex: "-1" }, "What fires on a prompt"),
    index.prompts.length > 1 && choicesOf(number),
    make("p", { class: "soft" }, "Colour is the strongest feature of each token, as a share of its largest activation. Choose a token to see what fires there."),
    promptText(prompt, number, entries, chosen),
    denseSwitch(number, chosen),
    make("div", { class: "prompt-panes" }, tokenList(prompt, entries, chosen), heatTable(prompt, number, entries, chosen, token !== null))));
  const heat = view.querySelector(".heat"), column = token === null ? null : heat.querySelector("[aria-current]");
  if (column) {  // to the middle of what the column of features leaves free
    const [all, mine] = [heat.getBoundingClientRect(), column.getBoundingClientRect()];
    const first = heat.querySelector("th").offsetWidth;
    heat.scrollLeft += mine.left + mine.width / 2 - (all.left + first + (all.width - first) / 2);
  }
  return undefined;
}

/* Each code that is not 0, with its share of what the feature reaches anywhere. */
function entriesOf(prompt) {
  const entries = [];
  let hidden = 0;
  prompt.value.forEach((value, i) => {
    const feature = prompt.feature[i], place = placeOf.get(feature);
    const density = place === undefined ? null : index.columns.density[place];
    const largest = place === undefined ? null : index.columns.largest[place];
    if (!prompting.dense && density > MANY) hidden++;
    else entries.push({ token: prompt.token[i], feature, value, share: largest ? Math.min(1, value / largest) : null });
  });
  entries.sort((a, b) => (b.share ?? -1) - (a.share ?? -1) || b.value - a.value);
  entries.hidden = hidden;
  return entries;
}

const strongestToken = entries => entries.length ? entries[0].token : 0;

function choicesOf(number) {
  return make("label", { class: "choice" }, "Prompt ", make("select", {
    "aria-label": "Prompt", onchange: event => { location.hash = `#prompt/${event.target.value}`; },
  }, index.prompts.map((prompt, i) => make("option", { value: i, selected: i === number && "" },
    prompt.text.length > 70 ? `${prompt.text.slice(0, 70)}…` : prompt.text))));
}

function denseSwitch(number, chosen) {
  const dense = index.columns.density.some(share => share > MANY);
  return dense && make("label", { class: "choice soft" }, make("input", {
    type: "checkbox", checked: prompting.dense && "",
    onchange: event => { prompting.dense = event.target.checked; showPrompt(number, chosen); },
  }), ` with features that fire on more than ${percent(MANY)} of all rows`);
}

function promptText(prompt, number, entries, chosen) {
  const best = new Array(prompt.tokens.length).fill(0);
  for (const { token, share } of entries) best[token] = Math.max(best[token], share ?? 0);
  return make("p", { class: "text prompt-text", dir: "auto" }, prompt.tokens.map((token, at) => make("a", {
    href: `#prompt/${number}/${at}`, "--a": best[at].toFixed(2), "aria-current": at === chosen ? "true" : null,
    "aria-label": `Token ${at}: ${token}`,
  }, lined(token))));
}

function tokenList(prompt, entries, chosen) {
  const mine = entries.filter(entry => entry.token === chosen).slice(0, 12);
  return make("section", { class: "bars warm at-token" },
    make("h2", null, "On ", chip(prompt.tokens[chosen] ?? "")),
    mine.length === 0 && make("p", { class: "soft" }, "No feature fires here."),
    make("ul", null, mine.map(entry => make("li", { "--share": entry.share ?? 0 },
      featureLink(entry.feature), make("span", { class: "bar-line" }),
      make("span", { class: "amount", "data-tip": entry.share === null ? null : `${percent(entry.share)} of its largest` }, short(entry.value, 2))))));
}

/* Features down, tokens across. */
function heatTable(prompt, number, entries, chosen, asked) {
  const rows = new Map();  // from features, the strongest first, to their entries by token
  for (const entry of entries) {
    if (!rows.has(entry.feature)) rows.set(entry.feature, new Map());
    rows.get(entry.feature).set(entry.token, entry);
  }
  // Those of the chosen token first; then in the order in which they fire, along the text.
  const all = [...rows];  // once, because a Set tells pairs apart by identity
  const here = all.filter(([, cells]) => asked && cells.has(chosen)).slice(0, MOST_HERE);
  const some = [...new Set([...here, ...all])].slice(0, MOST_FEATURES);
  const peak = cells => [...cells.values()].reduce((a, b) => (b.share ?? 0) > (a.share ?? 0) ? b : a).token;
  some.splice(here.length, MOST_FEATURES, ...some.slice(here.length).sort((a, b) => peak(a[1]) - peak(b[1])));
  const head = make("tr", null, make("th", { scope: "col" }, `${Math.min(rows.size, MOST_FEATURES)} of ${plural(rows.size, "feature")}`),
    prompt.tokens.map((token, at) => make("th", { scope: "col", "aria-current": at === chosen ? "true" : null },
      make("a", { href: `#prompt/${number}/${at}` }, chip(token)))));
  const body = some.map(([feature, cells]) => make("tr", null, make("th", { scope: "row" }, featureLink(feature)),
    prompt.tokens.map((_, at) => {
      const entry = cells.get(at);
      return entry ? make("td", { "--a": (entry.share ?? 0.3).toFixed(2), "data-tip": `feature ${feature}: ${short(entry.value, 2)}` },
        make("span", { class: "unseen" }, short(entry.value, 2))) : make("td");
    })));
  return make("section", null, make("h2", null, "Features along the prompt"),
    make("div", { class: "scroll heat", tabindex: "0", role: "region", "aria-label": "Features along the prompt" },
      make("table", null, make("thead", null, head), make("tbody", null, body))));
}
