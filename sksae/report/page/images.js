/* Examples that are images: patches are lighter the stronger the feature fires on them. */

const ADDRESSES = new Map();   // from the number of an image to its address, made once

/* The address of an image in this page; null where it was not kept. */
function addressOf(number) {
  if (!ADDRESSES.has(number)) {
    const inside = document.getElementById(`image-${number}`);
    ADDRESSES.set(number, inside ? `data:image/png;base64,${inside.textContent}` : null);
  }
  return ADDRESSES.get(number);
}

/* What a feature fires on at a glance: cuttings of images around the strongest patches, or tokens. */
function sampleOf(line, most = 4) {
  if (!onImages() || !line.crops.length) return line.tokens.slice(0, most).map(chip);
  return line.crops.slice(0, most).map(([number, patch]) => cutting(number, patch));
}

/* The neighbourhood of a patch, three patches wide where there are as many. */
function cutting(number, patch) {
  const [rows, columns] = index.image_grid;
  const whole = patch < 0 || rows * columns === 1;
  const [across, down] = whole ? [1, 1] : [columns / Math.min(3, columns), rows / Math.min(3, rows)];
  const at = (place, size, zoom) => zoom === 1 ? 50
    : 100 * Math.min(Math.max((place - 1) / (size - size / zoom), 0), 1);
  const box = make("span", { class: "cutting", role: "img", "aria-label": `image ${number}` });
  box.style.backgroundImage = `url("${addressOf(number)}")`;
  box.style.backgroundSize = `${100 * across}% ${100 * down}%`;
  box.style.backgroundPosition = whole ? "center"
    : `${at(patch % columns, columns, across)}% ${at(Math.floor(patch / columns), rows, down)}%`;
  return box;
}

/* One example: its image, dark where the feature is silent, its strongest patch in a frame. */
function imageLine(example, largest) {
  const { text, patch, known, heat, tokens, activation } = example;
  const [rows, columns] = index.image_grid;
  const address = addressOf(text), whole = rows * columns === 1;
  const name = `image ${text}`, place = whole && tokens[0] === String(text) ? null : tokens[0];
  const picture = make("div", { class: "picture" },
    address ? make("img", { src: address, alt: place ? `${name}, ${place}` : name, onload: event => event.target.classList.toggle("coarse", event.target.naturalWidth < 64) })
      : make("p", { class: "soft missing" }, "image not kept"),
    whole ? null : overlay(heat, patch, largest, rows, columns));
  const partly = known < rows * columns && `${known} of ${rows * columns} patches were read`;
  return make("li", { class: isHit(tokens) ? "example of-image hit" : "example of-image" }, picture,
    make("span", { class: "value" }, activation > 0 ? short(activation) : "0"),
    make("span", { class: "soft" }, name),
    place && make("p", { class: "place soft" }, place), partly && make("p", { class: "place soft" }, partly),
    columnsLine(index.columns_of_texts, lineOfText.get(text)));
}

/* A shade per patch; the square root of the activation, so that weak ones can be seen. */
function overlay(heat, patch, largest, rows, columns) {
  const shade = (level, at) => draw("rect", {
    x: at % columns, y: Math.floor(at / columns), width: 1, height: 1,
    opacity: (0.6 * (1 - Math.sqrt(level / 255))).toFixed(2),
    "data-tip": `row ${Math.floor(at / columns)}, column ${at % columns}: ${short((level / 255) * largest, 2)}`,
  });
  const frame = patch < 0 ? null : draw("rect", {
    class: "peak", x: patch % columns - 0.1, y: Math.floor(patch / columns) - 0.1, width: 1.2, height: 1.2 });
  return draw("svg", { class: "overlay", viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    [...heat].map(shade), frame);
}

/* A button that takes the shades away from all images. */
function overlayButton() {
  if (nPatches() === 1) return null;
  const button = make("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => {
    const plain = document.querySelector(".examples").classList.toggle("plain");
    button.setAttribute("aria-pressed", String(plain));
  } }, "plain images");
  return button;
}
