/* The list of features: searched, filtered, sorted, and only as much of it drawn as is seen. */

const list = { order: [], cursor: 0, sort: null, descending: false, flags: new Set(), queries: [], terms: "" };
const COLUMNS = [
  { name: "feature", title: "#", first: false, hint: "number" },
  { name: "label", title: "fires on", first: false, hint: "what it fires on" },
  { name: "density", title: "rows", first: true, hint: "share of rows on which it fires" },
  { name: "largest", title: "max", first: true, hint: "largest activation" },
  { name: "score", title: "score", first: true, hint: "score of the explanation" },
];
const byId = id => document.getElementById(id);
const rowHeight = () => index.labelled ? 56 : onImages() ? 46 : 38;

function prepareList() {
  const { label: labels, tokens, feature } = index.columns;
  index.labelled = labels.some(Boolean);
  index.scored = index.score_names.length > 0;
  list.queries = feature.map((number, place) =>
    plainly(`#${number} ${labels[place] || ""} ${tokens[place].join(" ")}`));
  list.names = feature.map((_, place) =>
    (labels[place] || tokens[place].map(token => token.trim()).join(" ")).toLowerCase());
  const columns = COLUMNS.filter(column => column.name !== "score" || index.scored);
  byId("rows").classList.toggle("scored", index.scored);
  byId("rows").style.setProperty("--row", `${rowHeight()}px`);
  byId("rows").setAttribute("aria-colcount", columns.length);
  byId("head").replaceChildren(...columns.map(column => make("span",
    { role: "columnheader", class: `c-${column.name}`, id: `by-${column.name}`, "aria-sort": "none" },
    make("button", { type: "button", title: `Sort by ${column.name === "score" ? `score: ${index.score_names[0]}` : column.hint}`, onclick: () => sortBy(column) }, column.title))));
  byId("chips").replaceChildren(...flagChips());
  byId("search").addEventListener("input", refreshList);
  byId("rows").addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  new ResizeObserver(drawRows).observe(byId("rows"));
  refreshList();
}

/* A chip a warning shows only features with it; "no warning" those with none. */
function flagChips() {
  const counts = index.flags.map((_, flag) => index.columns.flags.filter(mine => mine.includes(flag)).length);
  const clean = index.columns.flags.filter(mine => !mine.length).length;
  if (!index.flags.length) return [];
  const one = (key, name, number) => make("button", {
    type: "button", class: "chip", "aria-pressed": "false",
    onclick: event => {
      const on = list.flags.delete(key) ? false : Boolean(list.flags.add(key));
      event.currentTarget.setAttribute("aria-pressed", String(on));
      refreshList();
    },
  }, name, make("small", null, count(number)));
  return [one(-1, "no warning", clean), ...index.flags.map((name, flag) => one(flag, name, counts[flag]))];
}

function sortBy(column) {
  const same = list.sort === column.name;
  list.descending = same ? !list.descending : column.first;
  list.sort = column.name;
  for (const head of byId("head").children) {
    const mine = head.id === `by-${column.name}`;
    head.setAttribute("aria-sort", mine ? (list.descending ? "descending" : "ascending") : "none");
  }
  refreshList();
}

function refreshList() {
  const kept = list.order[list.cursor];
  const terms = plainly(byId("search").value).split(/\s+/).filter(Boolean);
  searchTexts(terms);
  list.order = [];
  for (let place = 0; place < list.queries.length; place++) {
    if (isWanted(place) && terms.every(term => list.queries[place].includes(term))) list.order.push(place);
  }
  const named = list.order.length;
  list.order.push(...[...searching.hits.keys()].filter(isWanted));
  sortOrder(terms);
  const sameTerms = terms.join(" ") === list.terms;
  list.terms = terms.join(" ");
  list.cursor = Math.max(0, terms.length && !sameTerms ? 0 : list.order.indexOf(kept));
  const all = index.columns.feature.length;
  byId("found").textContent = named === all ? plural(all, "feature")
    : `${count(named)} of ${plural(all, "feature")}`;
  byId("rows").setAttribute("aria-rowcount", list.order.length + 1);
  if (!sameTerms) byId("rows").scrollTop = 0;
  drawRows();
}

/* Whether the chips of the warnings let a feature through. */
function isWanted(place) {
  const mine = index.columns.flags[place];
  return !list.flags.size || (mine.length ? mine.some(flag => list.flags.has(flag)) : list.flags.has(-1));
}

/* What has no value comes last either way; a number that was searched for comes first. */
function sortOrder(terms) {
  if (list.sort) {
    const values = list.sort === "label" ? list.names : index.columns[list.sort];
    const sign = list.descending ? -1 : 1;
    const none = value => value === null || value === "";
    list.order.sort((a, b) => none(values[a]) - none(values[b]) ||
      sign * ((values[a] > values[b]) - (values[a] < values[b])) || a - b);
  }
  const exact = terms.length === 1 ? placeOf.get(Number(terms[0].replace("#", ""))) : undefined;
  const at = list.order.indexOf(exact);
  if (at > 0) list.order.unshift(...list.order.splice(at, 1));
}

function drawRows() {
  const grid = byId("rows"), height = rowHeight(), body = byId("window");
  const first = Math.max(0, Math.floor(grid.scrollTop / height) - 6);
  const last = Math.min(list.order.length, Math.ceil((grid.scrollTop + grid.clientHeight) / height) + 6);
  const rows = [];
  for (let at = first; at < last; at++) rows.push(listRow(at, height));
  body.style.height = `${list.order.length * height}px`;
  body.replaceChildren(...rows);
  if (!list.order.length) body.append(make("p", { class: "message soft" }, "No feature matches."));
  const cursor = byId(`row-${list.cursor}`);
  if (cursor) grid.setAttribute("aria-activedescendant", cursor.id);
  else grid.removeAttribute("aria-activedescendant");
}

function listRow(at, height) {
  const line = lineOf(index.columns.feature[list.order[at]]);
  const cell = (name, ...inside) => make("span", { role: "gridcell", class: `c-${name}` }, inside);
  const hit = searching.hits.get(list.order[at]);
  const tokens = hit
    ? make("bdi", { class: "snippet" }, hit[0], make("b", null, hit[1]), hit[2])
    : make("span", { class: "tokens" }, sampleOf(line, 6));
  const flags = line.flags.map(flag => make("span", { class: "flag" }, index.flags[flag]));
  const named = line.label
    ? [make("bdi", { class: "meaning", title: line.label }, line.label), make("span", { class: "second" }, flags, tokens)]
    : [make("span", { class: "second" }, flags, line.tokens.length ? tokens : null)];
  const row = make("div", {
    class: "row", role: "row", id: `row-${at}`, "aria-rowindex": at + 2, "data-feature": line.feature,
    "aria-selected": String(at === list.cursor), "aria-current": route.feature === line.feature ? "page" : null,
    onclick: () => { list.cursor = at; open(line.feature); },
  }, cell("feature", String(line.feature)), cell("label", named), cell("density", percent(line.density)),
  cell("largest", short(line.largest)), index.scored && cell("score", line.score === null ? "–" : make("span", {
    class: line.doubted && "doubted", title: line.doubted ? "The words do not clearly beat chance" : null,
  }, line.score.toFixed(2), line.doubted ? make("span", { class: "unseen" }, " not clearly better than chance") : null)));
  row.style.top = `${at * height}px`;
  return row;
}

function moveCursor(by) {
  if (!list.order.length) return;
  list.cursor = Math.min(Math.max(list.cursor + by, 0), list.order.length - 1);
  revealCursor();
}

/* The row of the cursor, between the heading and the end of what is seen. */
function revealCursor() {
  const grid = byId("rows"), height = rowHeight();
  const room = grid.clientHeight - byId("head").offsetHeight;
  const top = list.cursor * height;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + height > grid.scrollTop + room) grid.scrollTop = top + height - room;
  drawRows();
}

/* The feature after this one in the list as it is sorted and filtered now; null at its ends. */
function neighbour(feature, by) {
  const at = list.order.indexOf(placeOf.get(feature)) + by;
  return at >= 0 && at < list.order.length ? index.columns.feature[list.order[at]] : null;
}
