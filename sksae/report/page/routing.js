/* Which view is shown, by the address; and the keys. */

const route = { view: null, feature: null };
let depth = 0;  // views opened within the page before this one, so that Escape never leaves the page

function open(feature) {
  if (route.feature !== feature) location.hash = `#feature/${feature}`;
}

/* To a neighbour in the list, without making the way back longer. */
function stepTo(by) {
  const other = neighbour(route.feature, by);
  if (other === null) return;
  history.replaceState({ depth }, "", `#feature/${other}`);
  follow();
}

function back() {
  if (depth > 0) history.back();
  else location.hash = narrow() ? "#features" : "#start";
}

const narrow = () => matchMedia("(max-width: 860px)").matches;

function follow() {
  const [view, ...rest] = location.hash.slice(1).split("/");
  const [first, second] = rest.map(part => /^\d+$/.test(part) ? Number(part) : null);
  const samePrompt = view === "prompt" && route.view === "prompt";
  route.view = ["feature", "features", "prompt", "statements"].includes(view) ? view : "start";
  route.feature = route.view === "feature" ? first ?? -1 : null;
  document.body.dataset.view = route.view;
  byId("tip").hidden = true;
  for (const link of document.querySelectorAll(".bar nav a")) {
    const mine = link.hash === `#${route.view}` || link.hash.startsWith("#prompt") && route.view === "prompt";
    if (mine) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (route.view === "feature") showFeature(route.feature).then(arrived);
  else if (route.view === "prompt") showPrompt(first ?? 0, second);
  else if (route.view === "statements") showStatements(first);
  else showStart().then(arrived);
  if (!samePrompt && !(route.view === "statements" && first !== null)) byId("view").scrollTop = 0;
  const name = route.view === "feature" ? `Feature ${route.feature}` : route.view === "prompt" ? "Prompts" : route.view === "statements" ? "Statements" : null;
  document.title = name ? `${name} · ${index.title}` : index.title;
  followInList();
}

/* The list marks what is open, and shows it. */
function followInList() {
  const at = list.order.indexOf(placeOf.get(route.feature));
  if (at >= 0) list.cursor = at;
  if (at >= 0 || route.view === "features") revealCursor();
  else drawRows();
  const keys = matchMedia("(hover: hover)").matches;
  if (route.view === "features" && keys) byId("rows").focus({ preventScroll: true });
}

/* Who reads with the keyboard or by ear begins at the heading, unless they are in the list. */
function arrived() {
  byId("view").dataset.shown = location.hash;
  const inList = document.activeElement?.closest(".list-pane");
  if ((!inList || narrow()) && route.view === "feature") {
    byId("view").querySelector("h1")?.focus({ preventScroll: true });
  }
}

const KEYS = {
  "/": () => {
    if (narrow() && route.view !== "features") location.hash = "#features";
    byId("search").focus();
    byId("search").select();
  },
  j: () => moveCursor(1),
  k: () => moveCursor(-1),
  ArrowLeft: () => route.feature !== null && stepTo(-1),
  ArrowRight: () => route.feature !== null && stepTo(1),
  Escape: () => route.view !== "start" && back(),
};
const GRID_KEYS = {
  ArrowDown: () => moveCursor(1),
  ArrowUp: () => moveCursor(-1),
  PageDown: () => moveCursor(10),
  PageUp: () => moveCursor(-10),
  Home: () => moveCursor(-Infinity),
  End: () => moveCursor(Infinity),
};

const openCursor = () => list.order.length && open(index.columns.feature[list.order[list.cursor]]);

function searchKey(event) {
  const search = byId("search");
  if (event.key === "ArrowDown") byId("rows").focus();
  else if (event.key === "Enter") openCursor();
  else if (event.key === "Escape" && search.value === "") search.blur();
  else if (event.key === "Escape") {
    search.value = "";
    refreshList();
  } else return;
  event.preventDefault();
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.id === "search") return void searchKey(event);
  if (event.target.closest("select, input, summary")) return;
  const scrolls = event.target.closest(".scroll") && event.key.startsWith("Arrow");
  const inGrid = event.target.id === "rows";
  let act = inGrid && GRID_KEYS[event.key] || !scrolls && Object.hasOwn(KEYS, event.key) && KEYS[event.key];
  if (event.key === "Enter" && (inGrid || !event.target.closest("a, button"))) act = openCursor;
  if (!act) return;
  event.preventDefault();
  act();
}

async function begin() {
  try {
    await readIndex();
    byId("to-prompts").hidden = !index.prompts.length;
    byId("to-statements").hidden = !index.statements.length;
    prepareList();
    follow();
  } catch (error) {
    byId("view").replaceChildren(...message("This page cannot be read", error.message));
    return;
  }
  history.replaceState({ depth }, "");
  addEventListener("hashchange", () => {
    depth = history.state ? history.state.depth : depth + 1;
    history.replaceState({ depth }, "");
    follow();
  });
  document.addEventListener("keydown", pressed);
  document.addEventListener("pointermove", event => event.target.closest?.(".pointing") || showTip(event));
  document.addEventListener("pointerdown", showTip);
  document.addEventListener("scroll", () => { byId("tip").hidden = true; }, true);
}

begin();
