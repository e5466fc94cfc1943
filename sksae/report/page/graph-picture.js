/* The picture: items in rows of layers and columns of tokens, edges on a canvas behind them. */

const GAP = 17, ACROSS = 6, LINE = 18, LETTER = 6.6, BOLD = 7.4, MOST_LINES = 4000;
const NARROW = 40, ROW_EDGE = 11;  // the least of a column, and above and below the nodes of a row
const picture = { at: new Map(), elements: new Map(), width: 0, height: 0, svg: null, near: new Set() };

/* Rows from the top: logits, layers, tokens. */
const rowOf = node => graph.n_layers - graph.layer[node];

function placeOfItem(item) {
  if (typeof item === "number") return { row: rowOf(item), column: graph.position[item] };
  const members = [...item.members].filter(node => graph.shown[node]);
  const mean = values => Math.round(values.reduce((sum, value) => sum + value, 0) / values.length);
  return { row: mean(members.map(rowOf)), column: mean(members.map(node => graph.position[node])) };
}

/* What is drawn: nodes that are kept, and a closed group instead of its members. */
function itemsShown() {
  const items = new Set();
  graph.shown.forEach((is, node) => is && items.add(itemOf(node)));
  return [...items];
}

const letters = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
const isWide = item => typeof item !== "number" || isEnd(item);
const isToken = item => graph.kind[item] === "token";

/* What stands on a wide item: a token gets the letters that its column has room for. */
function labelOf(item) {
  const room = isToken(item) ? Math.floor((picture.widths[graph.position[item]] - 8) / LETTER) : typeof item === "number" ? 12 : 18;
  return letters(titleOf(item), Math.max(2, room));
}

const widthOf = item => isWide(item) ? Math.max(26, 14 + (typeof item === "number" ? LETTER : BOLD) * labelOf(item).length) : GAP;
const strengthOf = item => typeof item === "number" ? graph.influence[item] : Infinity;

/* Lines of a cell: wide items alone, others some beside each other. */
function linesOf(items) {
  const lines = [];
  let line = null;
  for (const item of items) {
    if (isWide(item)) {
      lines.push([item]);
      line = null;
    } else if (line && line.length < ACROSS) line.push(item);
    else lines.push(line = [item]);
  }
  return lines;
}

/* Cells of a row and a column, with their lines. */
function cellsOf(items) {
  const cells = new Map();
  for (const item of items) {
    const { row, column } = placeOfItem(item), key = `${row} ${column}`;
    if (!cells.has(key)) cells.set(key, { row, column, items: [] });
    cells.get(key).items.push(item);
  }
  for (const cell of cells.values()) {
    cell.items.sort((a, b) => strengthOf(b) - strengthOf(a));
    cell.lines = linesOf(cell.items);
  }
  return [...cells.values()];
}

/* Where rows begin, and where columns do: as much room as their nodes need, or as there is. */
function measure(cells) {
  const plot = byId("plot"), axis = byId("axis").offsetWidth;
  const lines = Array(graph.n_layers + 2).fill(1), widths = Array(graph.tokens.length).fill(NARROW);
  for (const cell of cells) lines[cell.row] = Math.max(lines[cell.row], cell.lines.length);
  picture.widths = widths;
  for (const cell of cells.filter(one => !isToken(one.items[0]))) {
    widths[cell.column] = Math.max(widths[cell.column], ...cell.lines.map(line => line.reduce((sum, item) => sum + widthOf(item) + 4, 0)));
  }
  const wide = (plot.clientWidth - axis - 12 - widths.reduce((a, b) => a + b, 0)) / widths.length;
  const high = (plot.clientHeight - 20 - lines.reduce((a, b) => a + b * LINE + 2 * ROW_EDGE, 0)) / lines.length;
  const tops = [0], lefts = [6];
  for (const n of lines) tops.push(tops[tops.length - 1] + n * LINE + 2 * ROW_EDGE + Math.max(0, Math.min(high, 60)));
  widths.forEach((width, i) => {
    widths[i] = width + Math.max(0, Math.min(wide, 60));
    lefts.push(lefts[i] + widths[i]);
  });
  Object.assign(picture, { tops, width: lefts[lefts.length - 1] + 6, height: tops[tops.length - 1] });
  return lefts;
}

function layOut() {
  const cells = cellsOf(itemsShown()), lefts = measure(cells);
  picture.at.clear();
  for (const { row, column, lines } of cells) {
    const middle = (picture.tops[row] + picture.tops[row + 1]) / 2;
    lines.forEach((line, i) => {
      let x = lefts[column] + picture.widths[column] / 2 - line.reduce((sum, item) => sum + widthOf(item), 0) / 2;
      for (const item of line) {
        picture.at.set(item, { x: x + widthOf(item) / 2, y: middle + (i - (lines.length - 1) / 2) * LINE });
        x += widthOf(item);
      }
    });
  }
}

function drawPicture() {
  const focused = picture.svg?.contains(document.activeElement);
  layOut();
  const { width, height, tops } = picture;
  picture.elements.clear();
  for (const [item, at] of picture.at) picture.elements.set(item, nodeElement(item, at));
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, [...picture.elements.values()]);
  picture.svg?.remove();
  picture.svg = svg;
  byId("field").append(svg);
  byId("field").style.width = `${width}px`;
  byId("axis").style.height = `${height}px`;
  byId("axis").replaceChildren(...tops.slice(0, -1).map((top, row) => {
    const name = make("span", null, layerName(graph.n_layers - row));
    name.style.top = `${(top + tops[row + 1]) / 2}px`;
    return name;
  }));
  markChosen();
  if (focused) (picture.elements.get(state.chosen) ?? byId("plot")).focus({ preventScroll: true });
}

function nodeElement(item, { x, y }) {
  const kind = typeof item === "number" ? graph.kind[item] : "group";
  const width = widthOf(item) - 4, said = `${titleOf(item)}, ${placeIn(item)}`;
  const shape = isWide(item) ? draw("rect", { class: "shape", x: x - width / 2, y: y - 8, width, height: 16, rx: 4 })
    : kind === "error" ? draw("path", { class: "shape", d: `M${x} ${y - 6.5}l6.5 6.5l-6.5 6.5l-6.5 -6.5z` })
      : draw("circle", { class: "shape", cx: x, cy: y, r: 6 });
  return draw("g", { class: `node ${kind}`, role: "button", tabindex: -1, "aria-label": `${kind}: ${said}`, "data-tip": said,
    "data-node": typeof item === "number" ? item : null, onclick: () => tapped(item) },
  draw("rect", { class: "hit", x: x - Math.max(width, GAP) / 2, y: y - LINE / 2, width: Math.max(width, GAP), height: LINE }),
  shape, isWide(item) && draw("text", { x, y: y + 4, "text-anchor": "middle" }, labelOf(item)));
}

/* Edges between what is drawn, those of a group's members as one. */
function linesShown() {
  const sums = new Map();
  for (const edge of graph.kept) {
    const source = itemOf(edge.source), target = itemOf(edge.target);
    if (source === target) continue;
    const key = picture.number.get(source) * picture.number.size + picture.number.get(target);
    const line = sums.get(key);
    if (line) {
      line.value += edge.value;
      line.score += edge.score;
    } else sums.set(key, { source, target, value: edge.value, score: edge.score });
  }
  return [...sums.values()].sort((a, b) => b.score - a.score);
}

function markChosen() {
  picture.number = new Map([...picture.at.keys()].map((item, i) => [item, i]));
  picture.lines = linesShown();
  const chosen = state.chosen !== null && picture.at.has(state.chosen);
  picture.near = new Set(chosen ? picture.lines.filter(line => line.source === state.chosen || line.target === state.chosen)
    .flatMap(line => [line.source, line.target]) : []);
  picture.svg.classList.toggle("plot-chosen", chosen);
  let first = true;
  for (const [item, element] of picture.elements) {
    element.classList.toggle("picked", item === state.chosen);
    element.classList.toggle("near", picture.near.has(item));
    element.classList.toggle("member", typeof item === "number" && state.group !== null && state.group.members.has(item));
    element.setAttribute("tabindex", (chosen ? item === state.chosen : first) ? 0 : -1);
    first = false;
  }
  drawLines();
}

function drawLines() {
  const canvas = byId("lines"), { width, height } = picture;
  // Browsers of telephones have canvases of 16 million pixels at most.
  const scale = Math.min(devicePixelRatio || 1, Math.sqrt(16e6 / Math.max(1, width * height)));
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colours = ["--up", "--down"].map(name => style.getPropertyValue(name).trim());
  const mine = line => line.source === state.chosen || line.target === state.chosen;
  const chosen = picture.near.size > 0;
  const lines = picture.lines.slice(0, MOST_LINES);
  const strongest = Math.max(...(chosen ? lines.filter(mine) : lines).map(line => line.score), 1e-30);
  pen.scale(scale, scale);
  pen.fillStyle = style.getPropertyValue("--card").trim();
  for (let row = 0; row < picture.tops.length - 1; row += 2) {
    pen.fillRect(0, picture.tops[row], width, picture.tops[row + 1] - picture.tops[row]);
  }
  for (const line of chosen ? [...lines.filter(l => !mine(l)), ...picture.lines.filter(mine)] : lines) {
    const from = picture.at.get(line.source), to = picture.at.get(line.target);
    const share = Math.min(1, Math.sqrt(line.score / strongest)), faint = chosen && !mine(line);
    pen.globalAlpha = faint ? 0.03 : 0.04 + 0.76 * share;
    pen.lineWidth = faint ? 0.6 : 0.6 + 2.4 * share;
    pen.strokeStyle = colours[line.value < 0 ? 1 : 0];
    const bend = (from.y - to.y) * 0.45;
    pen.beginPath();
    pen.moveTo(from.x, from.y - 6);
    pen.bezierCurveTo(from.x, from.y - bend, to.x, to.y + bend, to.x, to.y + 6);
    pen.stroke();
  }
}

/* The item that comes next in a direction, near and rather ahead than aside. */
function nextItem(key) {
  const here = picture.at.get(state.chosen);
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  let best = null, least = Infinity;
  for (const [item, at] of picture.at) {
    if (!here) return item;
    const ahead = (at.x - here.x) * dx + (at.y - here.y) * dy;
    const aside = Math.abs((at.x - here.x) * dy) + Math.abs((at.y - here.y) * dx);
    const distance = ahead + 3 * aside;
    if (ahead > 1 && distance < least) [best, least] = [item, distance];
  }
  return best;
}
