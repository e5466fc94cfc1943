/* The view that a newcomer sees first. */

async function showStart() {
  const listed = index.columns.feature.length;
  const some = listed < index.n_components ? ` The ${count(listed)} on this page were chosen from them.` : "";
  const view = make("article", { class: "start" },
    make("h1", { tabindex: "-1" }, index.title),
    make("p", { class: "lead" }, `A sparse autoencoder took ${plural(index.n_rows, "row")} of activations apart into ` +
      `${plural(index.n_components, "feature")}.${some} Each is a direction that only some rows use; what it ` +
      `stands for shows in the ${onImages() ? "images" : "texts"} it fires on. The ` +
      (onImages() && nPatches() > 1 ? "lighter a patch, the stronger it fires." : onImages() ? "strongest come first."
        : "stronger the colour, the stronger it fires.")),
    survivingStatements(),
    make("div", { id: "starters" }),
    make("div", { class: "panels wide" },
      make("section", null, make("h2", null, "How often features fire"), densityFigure(),
        make("p", { class: "soft" }, `${count(index.histogram.dead)} of ${plural(index.n_components, "feature")} never fire on these rows. ` +
          "Left of the dashed line, below 3 firings, rare and dead look the same.")),
      index.map && make("section", null, make("h2", null, "Map of the directions"), mapFigure(),
        make("p", { class: "soft" }, "Features by the two main axes of their directions; close ones may be alike. Choose a point to open it."))),
    measurements(), factsList());
  byId("view").replaceChildren(view);
  await fillStarters(view.querySelector("#starters"));
}

/* Cards of features that are easy to read. */
async function fillStarters(box) {
  if (!index.starters.length) return;
  const cards = make("div", { class: "cards" });
  box.append(make("h2", null, "Features to start with"), cards);
  for (const feature of index.starters) {
    let details;
    try {
      details = await detailsOf(feature);
    } catch (error) {
      cards.append(...message(null, error.message));
      return;
    }
    if (!cards.isConnected) return;
    const line = lineOf(feature);
    const shown = details.groups[0].examples.slice(0, onImages() ? 4 : 2).map(example => exampleLine(example, line.largest));
    cards.append(make("a", { class: "card", href: `#feature/${feature}` },
      make("span", { class: "card-head" }, make("span", { class: "number" }, String(feature)),
        line.label ? make("bdi", { class: "meaning" }, line.label) : !onImages() && line.tokens.slice(0, 3).map(chip)),
      make("ol", null, shown)));
  }
}

/* A point a feature; all of a kind are one path, so that many cost little. */
function mapFigure(height = 260) {
  const [across, up] = index.map;
  const on = across.map((_, feature) => placeOf.has(feature));
  const size = across.length > 4000 ? 3 : across.length > 800 ? 4.5 : 6;
  let side = 1, left = 0;
  const x = feature => left + 8 + (across[feature] / 1000) * (side - 16);
  const y = feature => side - 8 - (up[feature] / 1000) * (side - 16);
  const said = `Map of ${plural(across.length, "feature")} by the two main axes of their directions.`;
  const box = figure(said, height, width => {
    side = height;
    left = (width - side) / 2;
    const path = (kind, wanted) => draw("path", {
      class: `points ${kind}`, "stroke-width": size,
      d: across.map((_, f) => wanted(f) ? `M${x(f).toFixed(1)} ${y(f).toFixed(1)}h0` : "").join(""),
    });
    const warned = feature => index.columns.flags[placeOf.get(feature)].length > 0;
    return [path("off", f => !on[f]), path("flagged", f => on[f] && warned(f)), path("on", f => on[f] && !warned(f)),
      draw("circle", { class: "chosen", r: size, cx: -99, cy: -99 })];
  });
  const picture = box.firstChild;
  const nearest = event => {
    const corner = picture.getBoundingClientRect();
    const [px, py] = [event.clientX - corner.left, event.clientY - corner.top];
    let best = null, least = 20 ** 2;
    for (let f = 0; f < across.length; f++) {
      const distance = (x(f) - px) ** 2 + (y(f) - py) ** 2;
      if (on[f] && distance < least) [best, least] = [f, distance];
    }
    return best;
  };
  picture.addEventListener("pointermove", event => {
    const feature = nearest(event), circle = picture.querySelector(".chosen");
    circle.setAttribute("cx", feature === null ? -99 : x(feature));
    circle.setAttribute("cy", feature === null ? -99 : y(feature));
    picture.classList.toggle("pointing", feature !== null);
    if (feature === null) delete picture.dataset.tip;
    else picture.dataset.tip = `${feature}: ${nameOf(feature)}`;
    showTip(event);
  });
  picture.addEventListener("click", event => {
    const feature = nearest(event);
    if (feature !== null) open(feature);
  });
  return box;
}

/* What a feature stands for in plain words. */
function nameOf(feature) {
  const line = lineOf(feature);
  return line.label || line.tokens.slice(0, 4).map(token => token.trim()).join(" · ") || "never fires";
}

function measurements() {
  if (!index.table.length) return null;
  const [names, ...lines] = index.table;
  return make("section", null, make("h2", null, "Measurements"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Measurements" },
    make("table", null, make("thead", null, make("tr", null, names.map(name => make("th", { scope: "col" }, name)))),
      make("tbody", null, lines.map(line => make("tr", null, line.map((cell, i) =>
        make(i ? "td" : "th", i ? null : { scope: "row" }, cell))))))));
}

function factsList() {
  if (!index.facts.length) return null;
  return make("section", null, make("h2", null, "How this came about"), make("dl", null,
    index.facts.map(([name, value]) => [make("dt", null, name), make("dd", { dir: "auto" }, value)])));
}
