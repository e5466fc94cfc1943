/* The graph: its columns, its edges, and what is left of both when they are pruned. */

const KINDS = ["feature", "error", "token", "logit"];
const graph = { n: 0, into: [], outOf: [], shown: null, kept: [] };

async function readGraph() {
  const [header, rest] = await unpack(byId("graph").textContent);
  Object.assign(graph, header);
  graph.n = graph.kind.length;
  graph.kind = graph.kind.map(kind => KINDS[kind]);
  graph.into = Array.from({ length: graph.n }, () => []);
  graph.outOf = Array.from({ length: graph.n }, () => []);
  const view = new DataView(rest.buffer, rest.byteOffset);
  const total = header.n_edges, sources = 4 * graph.n, values = sources + 4 * total;
  for (let target = 0, e = 0; target < graph.n; target++) {
    for (const end = e + view.getUint32(4 * target, true); e < end; e++) {
      const edge = { source: view.getUint32(sources + 4 * e, true), target, value: view.getFloat32(values + 4 * e, true), score: 0 };
      graph.into[target].push(edge);
      graph.outOf[edge.source].push(edge);
    }
  }
  graph.weight = new Float64Array(graph.n);
  graph.logits = new Map();
  graph.kind.forEach((kind, node) => {
    if (kind !== "logit") return;
    graph.weight[node] = graph.probabilities[graph.logits.size];
    graph.logits.set(node, graph.logits.size);
  });
}

const isEnd = node => graph.kind[node] === "token" || graph.kind[node] === "logit";

/* The smallest of the fewest largest scores that sum to a share of all; 0 where there is nothing. */
function smallestOf(scores, share) {
  const sorted = Float64Array.from(scores).sort().reverse(), sums = new Float64Array(sorted.length);
  let sum = 0;
  sorted.forEach((score, i) => { sums[i] = sum += score; });
  if (!sum) return -1;
  let low = 0, high = sums.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sums[middle] / sum < share) low = middle + 1;
    else high = middle;
  }
  return sorted[Math.min(low, sorted.length - 1)];
}

/* Which nodes and edges carry a share of the influence: prune() of the graph in Python. */
function prune(nodeShare, edgeShare) {
  const least = graph.share.reduce((best, share, node) => share >= nodeShare && (best < 0 || share < graph.share[best]) ? node : best, -1);
  const bound = least < 0 ? -1 : graph.influence[least];
  let shown = graph.influence.map((influence, node) => isEnd(node) || influence >= bound);
  let kept = [];
  const parts = graph.into.map((edges, target) => {
    const inner = shown[target] ? edges.filter(edge => shown[edge.source]) : [];
    const total = Math.max(inner.reduce((sum, edge) => sum + Math.abs(edge.value), 0), 1e-10);
    kept = kept.concat(inner);
    return inner.map(edge => [edge, Math.abs(edge.value) / total]);
  });
  const influence = influenceOf(parts);
  parts.forEach((list, target) => list.forEach(([edge, share]) => { edge.score = share * (influence[target] + graph.weight[target]); }));
  const smallest = smallestOf(kept.map(edge => edge.score), edgeShare);
  kept = kept.filter(edge => edge.score >= smallest);
  for (let before = -1; before !== shown.filter(Boolean).length;) {
    before = shown.filter(Boolean).length;
    const leaves = new Uint8Array(graph.n), enters = new Uint8Array(graph.n);
    for (const edge of kept) leaves[edge.source] = enters[edge.target] = 1;
    shown = shown.map((is, node) => is && (isEnd(node) || leaves[node] > 0) && (graph.kind[node] !== "feature" || enters[node] > 0));
    kept = kept.filter(edge => shown[edge.source] && shown[edge.target]);
  }
  graph.shown = shown;
  graph.kept = kept;
}

/* Influence on the logits over all paths, from edges as shares of those into the same node. */
function influenceOf(parts) {
  const total = new Float64Array(graph.n);
  let step = graph.weight;
  for (let length = 0; length <= graph.n && step.some(Boolean); length++) {
    const next = new Float64Array(graph.n);
    parts.forEach((list, target) => {
      if (step[target]) for (const [edge, share] of list) next[edge.source] += step[target] * share;
    });
    next.forEach((value, node) => { total[node] += value; });
    step = next;
  }
  return total;
}

/* Groups of nodes with a name, which may be drawn as one. */
const groups = [];
const state = { chosen: null, group: null, tapping: false };

function readGroups() {
  const stored = JSON.parse(byId("groups").textContent);
  for (const [name, members] of Object.entries(stored)) {
    const nodes = members.map(id => graph.id.indexOf(id)).filter(node => node >= 0);
    groups.push({ name, members: new Set(nodes), closed: true });
  }
}

const groupOf = node => groups.find(group => group.members.has(node)) ?? null;

/* What is drawn for a node: its group where that is drawn as one. */
function itemOf(node) {
  const group = groupOf(node);
  return group?.closed ? group : node;
}

/* Effects between an item and others, of its members together, the strongest first. */
function effectsOfItem(item, side) {
  const members = typeof item === "number" ? [item] : [...item.members];
  const sums = new Map();
  let total = 0;
  for (const node of members) {
    for (const edge of side === "source" ? graph.into[node] : graph.outOf[node]) {
      const other = itemOf(edge[side]);
      if (other === item) continue;
      sums.set(other, (sums.get(other) ?? 0) + edge.value);
    }
  }
  for (const value of sums.values()) total += Math.abs(value);
  return { total, list: [...sums].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])) };
}

const tokenAt = node => graph.tokens[graph.position[node]];
const layerName = layer => layer < 0 ? "tokens" : layer === graph.n_layers ? "logits" : `layer ${layer}`;

/* A node in words: what it is, without where it is. */
function titleOf(item) {
  if (typeof item !== "number") return item.name;
  const kind = graph.kind[item];
  if (kind === "feature") return graph.name[item] || `Feature ${graph.feature[item]}`;
  if (kind === "error") return "Error";
  return kind === "token" ? tokenAt(item) : graph.logit_tokens[graph.logits.get(item)];
}

function placeIn(item) {
  if (typeof item !== "number") return plural(item.members.size, "node");
  const kind = graph.kind[item], at = `token ${graph.position[item]}`;
  if (kind === "logit") return `predicted with ${percent(graph.probabilities[graph.logits.get(item)])}`;
  return kind === "token" ? at : `${layerName(graph.layer[item])}, ${at} “${tokenAt(item)}”`;
}

const byId = id => document.getElementById(id);
