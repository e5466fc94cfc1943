/* Elements, numbers, and the pictures that several views share. Texts enter as text nodes only. */

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter(Boolean));
  return element;
}

function make(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

const count = number => number.toLocaleString("en");
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

function short(number, digits = 3) {
  if (number === null) return "–";
  const size = Math.abs(number);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return number.toExponential(digits - 1);
  return count(Number(number.toPrecision(digits)));
}

function percent(share) {
  if (share === null) return "–";
  const number = 100 * share;
  if (number === 0 || number >= 9.95) return `${Math.round(number)} %`;
  return `${Number(number.toPrecision(2)).toLocaleString("en", { maximumFractionDigits: 8 })} %`;
}

/* What is known of a feature without its details. */
function lineOf(feature) {
  const place = placeOf.get(feature), line = {};
  for (const name of Object.keys(index.columns)) line[name] = index.columns[name][place];
  return line;
}

/* A picture redrawn with the width there is, so that its letters keep their size. */
function figure(label, height, paint) {
  const picture = draw("svg", { role: "img", "aria-label": label, height });
  const repaint = () => {
    const width = Math.max(240, Math.round(picture.parentNode.clientWidth));
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren(...paint(width).flat(3).filter(Boolean));
  };
  const box = make("div", { class: "figure" }, picture);
  new ResizeObserver(repaint).observe(box);
  return box;
}

const label = (x, y, text, anchor = "middle", kind = "") =>
  draw("text", { x, y, "text-anchor": anchor, class: kind }, text);

/* Round numbers from 0 to the top, at most about five. */
function roundSteps(top) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(top, 1)));
  const step = Math.max(1, [0.2, 0.5, 1, 2].map(f => f * unit).find(s => top <= 5 * s) || 2 * unit);
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, i) => i * step);
}

/* How often features fire: bars over the logarithm of the density, the dead in one of their own. */
function densityFigure({ height = 220, mine = null } = {}) {
  const { decades, per_decade: fine, counts, dead, median, n_rows: rows } = index.histogram;
  const said = `Histogram of how often ${plural(index.n_components, "feature")} fire: ` +
    `${count(dead)} never, the median of the others on ${percent(median)} of rows.` +
    (mine === null ? "" : ` This one fires on ${percent(mine)}.`);
  return figure(said, height, width => {
    const left = 40, right = 14, top = 18, bottom = mine === null ? 44 : 26;
    const floor = height - bottom, most = Math.max(1, dead, ...counts);
    const step = (width - left - right) / (counts.length + 3);
    const y = n => floor - (n / most) * (floor - top);
    const x = exponent => left + step * (3 + (exponent + decades) * fine);
    const bar = (kind, at, wide, n, what) => n > 0 && draw("rect",
      { class: kind, x: at, y: y(n), width: wide, height: floor - y(n), "data-tip": `${what}: ${plural(n, "feature")}` });
    const every = Math.ceil(68 / ((width - left) / decades));
    const parts = roundSteps(most).map(n => [
      draw("line", { class: "grid", x1: left, x2: width - right, y1: y(n), y2: y(n) }),
      label(left - 6, y(n) + 4, count(n), "end")]);
    parts.push(bar("dead", left + step / 4, 1.5 * step, dead, "never"));
    counts.forEach((n, i) => {
      const low = -decades + i / fine;
      parts.push(bar("bar", x(low) + 0.5, Math.max(1, step - 1), n,
        `${percent(10 ** low)} to ${percent(10 ** (low + 1 / fine))} of rows`));
    });
    parts.push(label(left + step, floor + 17, "never"));
    for (let e = 0; e > -decades; e -= every) {
      parts.push(label(x(e), floor + 17, percent(10 ** e), e ? "middle" : "end"));
    }
    if (mine === null) parts.push(label(left + (width - left - right) / 2, height - 6, "share of rows on which a feature fires"));
    if (rows > 3 && mine === null) {
      const at = x(Math.log10(3 / rows));
      parts.push(draw("line", { class: "limit", x1: at, x2: at, y1: top - 6, y2: floor }),
        label(at + 4, top + 4, "3 rows", "start"));
    }
    if (mine !== null) {
      const at = mine > 0 ? x(Math.max(-decades, Math.log10(mine))) : left + step;
      parts.push(draw("path", { class: "here", d: `M${at} ${floor}V${top - 4}m-5 -6h10l-5 7z` }));
    }
    return parts;
  });
}

/* How strongly one feature fires: rows, on a logarithmic scale, over its activation. */
function activationFigure(details, height = 180) {
  const { counts, edges } = details;
  const said = `Histogram of the ${count(details.active)} activations that are not 0, from ` +
    `${short(edges[0])} to ${short(edges[edges.length - 1])}.`;
  return figure(said, height, width => {
    const left = 48, right = 14, top = 14, floor = height - 40;
    const most = Math.max(...counts), scale = Math.log10(1 + most);
    const y = n => floor - (Math.log10(1 + n) / scale) * (floor - top);
    const step = (width - left - right) / counts.length;
    const parts = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8].filter(n => n <= most).map(n => [
      draw("line", { class: "grid", x1: left, x2: width - right, y1: y(n), y2: y(n) }),
      label(left - 6, y(n) + 4, n >= 1e6 ? `${n / 1e6}M` : count(n), "end")]);
    counts.forEach((n, i) => n > 0 && parts.push(draw("rect", {
      class: "bar warm", x: left + i * step + 0.5, y: y(n), width: Math.max(1, step - 1), height: floor - y(n),
      "data-tip": `${short(edges[i])} to ${short(edges[i + 1])}: ${plural(n, "row")}` })));
    const every = Math.max(1, Math.ceil(edges.length / Math.max(2, Math.floor((width - left) / 58))));
    edges.forEach((edge, i) => {
      const last = i === edges.length - 1;
      if (last || (i % every === 0 && edges.length - 1 - i >= every / 2)) {
        parts.push(label(left + i * step, floor + 17, short(edge, 2), last && i ? "end" : "middle"));
      }
    });
    parts.push(label(left + (width - left - right) / 2, height - 4, "activation (both scales logarithmic)"));
    return parts;
  });
}
