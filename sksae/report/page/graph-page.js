/* Sliders, keys, touches, and files to keep. */

const asWritten = document.documentElement.outerHTML;  // before anything is drawn

const say = text => { byId("said").textContent = text; };

function choose(item, { focus = false } = {}) {
  state.chosen = item;
  markChosen();
  drawPanel();
  const element = picture.elements.get(item);
  element?.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (focus) byId("view").querySelector(".title").focus({ preventScroll: true });
  if (item === null) byId("plot").focus({ preventScroll: true });
  else byId("view").scrollTop = 0;
}

function tapped(item) {
  if (state.tapping && typeof item === "number") {
    state.chosen = item;
    toggleMember(item);
  } else choose(item);
}

/* Positions of the sliders: thousandths of what they can show. */
function refresh() {
  const nodeShare = Number(byId("nodes").value) / 1000 * graph.reach, edgeShare = Number(byId("edges").value) / 1000;
  prune(nodeShare, edgeShare);
  const inner = graph.shown.filter((is, node) => is && !isEnd(node)).length;
  const all = graph.kind.filter((_, node) => !isEnd(node)).length;
  byId("nodes-said").textContent = `${percent(nodeShare)} of influence: ${count(inner)} of ${count(all)}`;
  byId("edges-said").textContent = `${percent(edgeShare)} of the rest: ${count(graph.kept.length)} of ${count(graph.n_edges)}`;
  drawPicture();
}

function keep(name, text, type) {
  const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function groupsAsJson() {
  const members = group => [...group.members].sort((a, b) => a - b).map(node => graph.id[node]);
  return JSON.stringify(Object.fromEntries(groups.map(group => [group.name, members(group)])), null, 1);
}

/* The page with the groups as they are; what a name contains cannot end the element it is in. */
function pageWithGroups() {
  const json = groupsAsJson().replace(/</g, "\\u003c");
  const before = /(<script type="application\/json" id="groups">)[^<]*(<\/script>)/;
  return `<!DOCTYPE html>\n${asWritten.replace(before, (_, open, close) => open + json + close)}\n`;
}

const ARROWS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"];

function pressed(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const writing = target.closest("input");
  if (key === "Escape" && !writing) {
    const inPanel = target.closest("main");
    if (inPanel && picture.elements.has(state.chosen)) picture.elements.get(state.chosen).focus();
    else choose(null);
  } else if (target.closest("#plot")) {
    if (ARROWS.includes(key)) {
      const item = nextItem(key);
      if (item !== null) {
        choose(item);
        picture.elements.get(item).focus({ preventScroll: true });
      }
      event.preventDefault();
    } else if (key === "Enter" || key === " ") {
      const element = target.closest(".node");
      const item = [...picture.elements].find(([, one]) => one === element)?.[0] ?? state.chosen;
      if (item !== null) choose(item, { focus: true });
      event.preventDefault();
    }
  }
  if (key === "g" && !writing && typeof state.chosen === "number") toggleMember(state.chosen);
}

async function begin() {
  try {
    await readGraph();
    readGroups();
  } catch (error) {
    byId("view").replaceChildren(make("p", { class: "message", role: "alert" }, error.message));
    return;
  }
  byId("nodes").value = Math.min(1000, Math.round(800 / graph.reach));
  byId("edges").value = 980;
  for (const id of ["nodes", "edges"]) byId(id).addEventListener("input", () => { refresh(); drawPanel(); });
  document.addEventListener("keydown", pressed);
  document.addEventListener("pointermove", showTip);
  document.addEventListener("pointerdown", showTip);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawLines);
  const name = document.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "graph";
  byId("save-page").addEventListener("click", () => keep(`${name}.html`, pageWithGroups(), "text/html"));
  byId("save-groups").addEventListener("click", () => keep(`${name}-groups.json`, groupsAsJson(), "application/json"));
  for (const id of ["save-page", "save-groups"]) byId(id).disabled = false;
  refresh();
  drawPanel();
  byId("plot").scrollLeft = picture.width;  // the logits are on the right
  addEventListener("resize", drawPicture);
  document.body.dataset.ready = "yes";
}

begin();
