/* The panel: what is known of the chosen node, or of the whole graph, and the groups. */

const N_EFFECTS = 10;
const partsOf = new Map();  // from a layer to the promise of the details of its features

function drawPanel() {
  const item = state.chosen;
  const parts = item === null ? [wholeGraph()]
    : [headOf(item), actsOf(item), figuresOfItem(item), membersOf(item), ...effectLists(item), make("div", { id: "examples" })];
  byId("view").replaceChildren(make("article", null, parts, groupList()));
  if (typeof item === "number" && graph.kind[item] === "feature") fillExamples(item);
}

function wholeGraph() {
  const sign = (...shapes) => draw("svg", { width: 26, height: 16, viewBox: "0 0 26 16", "aria-hidden": "true" }, shapes);
  const node = (kind, shape) => sign(draw("g", { class: `node ${kind}` }, shape));
  const box = { class: "shape", x: 2, y: 2, width: 22, height: 12, rx: 3 };
  const stroke = kind => sign(draw("line", { class: kind, x1: 2, x2: 24, y1: 12, y2: 4, "stroke-width": 2.5 }));
  const rows = [
    [node("feature", draw("circle", { class: "shape", cx: 13, cy: 8, r: 6 })), "a feature of a transcoder"],
    [node("error", draw("path", { class: "shape", d: "M13 1.5l6.5 6.5l-6.5 6.5l-6.5 -6.5z" })), "an error: what a transcoder leaves out"],
    [node("token", draw("rect", box)), "a token, or the logit of one"],
    [node("group", draw("rect", box)), "a group of nodes"],
    [stroke("stroke-up"), "raises what it leads to"],
    [stroke("stroke-down"), "lowers it"],
  ];
  return make("section", null, make("h2", { class: "title", tabindex: "-1" }, "The graph"),
    make("p", { dir: "auto" }, make("bdi", null, graph.prompt)),
    make("ul", { class: "figures" }, graph.facts.map(([name, value]) => make("li", null, make("b", null, value), " ", name))),
    make("p", { class: "soft" }, "An edge is the direct effect of a node in this prompt, with attention and the denominators of norms as they are. ",
      "Choose a node for its inputs, outputs and examples."),
    make("ul", { class: "legend-list", "aria-label": "Legend" }, rows.map(([mark, said]) => make("li", null, mark, said))));
}

function headOf(item) {
  const kind = typeof item === "number" ? graph.kind[item] : "group";
  const named = kind === "feature" && graph.name[item];
  return make("header", null,
    make("p", { class: "over" }, named ? `Feature ${graph.feature[item]}` : kind[0].toUpperCase() + kind.slice(1), " · ", make("bdi", null, placeIn(item))),
    make("h2", { class: "title", tabindex: "-1" }, make("bdi", null, titleOf(item))));
}

function actsOf(item) {
  const button = (text, action, pressed = null) => make("button", { type: "button", "aria-pressed": pressed, onclick: action }, text);
  const acts = [];
  if (typeof item === "number") {
    const own = groupOf(item);
    acts.push(own ? button(`Take out of “${letters(own.name, 18)}”`, () => toggleMember(item, own))
      : button(state.group ? `Add to “${letters(state.group.name, 18)}”` : "Start a group", () => toggleMember(item)));
  }
  acts.push(button("Group by tapping", () => {
    state.tapping = !state.tapping;
    drawPanel();
  }, String(state.tapping)), button("Close", () => choose(null)));
  return make("div", { class: "node-acts" }, acts);
}

function figuresOfItem(item) {
  const members = typeof item === "number" ? [item] : [...item.members];
  const influence = members.reduce((sum, node) => sum + graph.influence[node], 0);
  const figures = [typeof item === "number" && graph.kind[item] === "feature" && [short(graph.activation[item]), "activation"],
    influence > 0 && [short(influence), "influence on the logits"],
    typeof item === "number" && graph.bias[item] !== null && [short(graph.bias[item]), "from biases"],
    typeof item === "number" && !graph.shown[item] && ["pruned", "at these settings"]];
  return make("ul", { class: "figures" }, figures.filter(Boolean).map(([value, name]) =>
    make("li", null, make("b", null, value), " ", name)));
}

function membersOf(item) {
  if (typeof item === "number") return null;
  const rows = [...item.members].map(node => make("li", null,
    make("button", { type: "button", onclick: () => { item.closed = false; changed(); choose(node, { focus: true }); } },
      make("bdi", { class: "meaning" }, titleOf(node)), make("bdi", { class: "soft" }, placeIn(node))),
    make("button", { type: "button", class: "out", "aria-label": `Take out ${titleOf(node)}`, onclick: () => toggleMember(node, item) }, "×")));
  return make("section", { class: "members" }, make("h2", null, "Members"), make("ul", { class: "links" }, rows));
}

function effectLists(item) {
  return [["Strongest inputs", "source"], ["Strongest outputs", "target"]].map(([title, side]) => {
    const { list, total } = effectsOfItem(item, side);
    if (!list.length) return null;
    const most = Math.abs(list[0][1]);
    const hint = side === "source" ? "direct effects on it, with their share of all" : "direct effects on others";
    const rows = list.slice(0, N_EFFECTS).map(([other, value]) => make("li", { class: value < 0 ? "negative" : "positive" },
      make("button", { type: "button", class: isShown(other) ? "" : "gone", onclick: () => choose(other, { focus: true }) },
        make("span", { class: "swatch", "--share": Math.abs(value) / most }),
        make("bdi", { class: "meaning" }, titleOf(other)), make("bdi", { class: "soft" }, placeIn(other))),
      make("span", { class: "amount" }, `${value < 0 ? "−" : "+"}${short(Math.abs(value))}`,
        side === "source" && ` · ${percent(Math.abs(value) / total)}`)));
    const more = list.length - rows.length;
    return make("section", { class: side }, make("h2", null, title), make("p", { class: "soft" }, hint),
      make("ul", { class: "links" }, rows), more > 0 && make("p", { class: "soft" }, `and ${count(more)} weaker`));
  });
}

const isShown = item => typeof item !== "number" || graph.shown[item];

/* Where a feature fires, from the atlas of its layer. */
async function fillExamples(node) {
  const layer = graph.layer[node], packed = byId(`part-${layer}`);
  if (!packed) return;
  if (!partsOf.has(layer)) partsOf.set(layer, readPart(packed.textContent));
  let features;
  try {
    features = await partsOf.get(layer);
  } catch (error) {
    byId("examples").replaceChildren(make("p", { class: "message", role: "alert" }, error.message));
    return;
  }
  const details = features.find(feature => feature.feature === graph.feature[node]);
  if (!details || state.chosen !== node) return;
  const tokens = (title, pairs) => pairs.length > 0 && make("section", null, make("h2", null, title),
    make("p", null, pairs.slice(0, 8).map(([token]) => [chip(token), " "])));
  byId("examples").replaceChildren(...[
    tokens("Fires on", details.tokens), tokens("Makes likelier", details.promoted),
    make("section", { class: "examples" }, make("h2", null, "Examples"), make("ol", null,
      details.groups.flatMap(group => group.examples).map(example => markedExample(example, graph.largest[node])))),
  ].filter(Boolean));
}

function markedExample({ tokens, levels, peak, cut, activation }, largest) {
  const low = Math.max(0, peak - BEFORE), high = Math.min(tokens.length, peak + AFTER + 1);
  const pieces = tokens.slice(low, high).map((token, i) => {
    const share = levels[low + i] / 255;
    if (!share) return make("span", null, lined(token));
    const space = BLANK.test(token) ? "" : token.match(/^ */)[0];
    return make("span", null, space, make("mark", { class: low + i === peak && "peak", "--a": (0.12 + 0.88 * share).toFixed(2),
      "data-tip": short(share * largest, 2) }, lined(token.slice(space.length))));
  });
  return make("li", { class: "example" }, make("span", { class: "value" }, short(activation)),
    make("p", { class: "text", dir: "auto" }, (low > 0 || cut & 1) && "…", pieces, (high < tokens.length || cut & 2) && "…"));
}

/* Groups: their names, whether they are drawn as one, and which one takes the next node. */
function groupList() {
  const lines = groups.map(group => {
    const name = make("input", { value: group.name, "aria-label": "Name of the group", maxlength: 80,
      onfocus: () => setGroup(group), onchange: event => rename(group, event.target.value) });
    const button = (text, said, action, pressed = null) =>
      make("button", { type: "button", "aria-label": `${said} ${group.name}`, "aria-pressed": pressed, onclick: action }, text);
    return make("li", { class: "group-line", "aria-current": group === state.group ? "true" : null }, name,
      button(plural(group.members.size, "node"), "Show", () => choose(group.closed ? group : [...group.members][0])),
      button("as one", "Draw as one:", () => { group.closed = !group.closed; changed(); }, String(group.closed)),
      button("×", "Dissolve", () => { groups.splice(groups.indexOf(group), 1); changed(); }));
  });
  return make("section", { class: "groups" }, make("h2", null, "Groups"),
    make("p", { class: "soft" }, lines.length ? "Save the page to keep them." : "Nodes that mean the same can be drawn as one: choose a node and start a group."),
    make("ul", null, lines));
}

function setGroup(group) {
  state.group = group;
  for (const line of document.querySelectorAll(".group-line")) line.removeAttribute("aria-current");
  document.activeElement.closest(".group-line")?.setAttribute("aria-current", "true");
  markChosen();
}

function rename(group, name) {
  const others = groups.filter(other => other !== group).map(other => other.name);
  group.name = freeName(name.trim() || group.name, others);
  changed();
}

/* A name that no other group has, since the file keeps groups by their names. */
function freeName(name, taken) {
  let free = name;
  for (let n = 2; taken.includes(free); n++) free = `${name} ${n}`;
  return free;
}

function toggleMember(node, from = groupOf(node)) {
  if (from) {
    from.members.delete(node);
    if (!from.members.size) groups.splice(groups.indexOf(from), 1);
  } else {
    if (!state.group || !groups.includes(state.group)) {
      const name = freeName(titleOf(node), groups.map(group => group.name));
      state.group = { name, members: new Set(), closed: false };
      groups.push(state.group);
    }
    state.group.members.add(node);
  }
  say(from ? `Taken out of ${from.name}` : `Added to ${state.group.name}`);
  changed();
}

function changed() {
  if (!groups.includes(state.group)) state.group = null;
  if (typeof state.chosen === "number" && state.chosen !== null) state.chosen = itemOf(state.chosen);
  else if (state.chosen !== null && !(groups.includes(state.chosen) && state.chosen.closed)) state.chosen = null;
  drawPicture();
  drawPanel();
}
