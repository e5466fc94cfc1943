"use strict";
/* Reading what the page was given: an index of all features, and parts with the details of some. */

const index = {};              // filled once, by readIndex
const placeOf = new Map();     // from the number of a feature to its place in the list
const lineOfText = new Map();  // from the number of a text to its place among the columns of texts
const parts = new Map();       // from the number of a part to the promise of its features
const awaited = new Map();     // from the name of a part beside the page to what takes its text

const onImages = () => Boolean(index.image_grid);  // whether rows are images or patches of them
const nPatches = () => index.image_grid[0] * index.image_grid[1];

function bytesOf(base64) {
  const characters = atob(base64);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

async function unpack(base64) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This page needs a browser of 2023 or later.");
  }
  try {
    const packed = new Blob([bytesOf(base64)]).stream();
    const stream = packed.pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const length = new DataView(bytes.buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
    return [header, bytes.subarray(4 + length)];
  } catch (error) {
    throw new Error("What this page needs to show here is damaged. Write the page again.", { cause: error });
  }
}

async function readIndex() {
  const [header] = await unpack(document.getElementById("index").textContent);
  Object.assign(index, header);
  index.columns.feature.forEach((feature, place) => placeOf.set(feature, place));
  index.columns_of_texts.texts.forEach((text, line) => lineOfText.set(text, line));
}

/* A number of seven bits per byte, low bits first; the cursor moves on behind it. */
function readNumber(bytes, cursor) {
  let number = 0, bits = 0, byte;
  do {
    byte = bytes[cursor.at++];
    number += (byte & 127) * 2 ** bits;
    bits += 7;
  } while (byte & 128);
  return number;
}

/* Numbers of words; then one byte of activation for each of them, and for each patch of an image. */
async function readPart(base64) {
  const [part, rest] = await unpack(base64);
  const windows = part.features.flatMap(f => f.groups.flatMap(g => g.examples));
  const cursor = { at: 0 };
  const tokens = windows.map(([length]) =>
    Array.from({ length }, () => part.words[readNumber(rest, cursor)]));
  windows.forEach((example, i) => {
    const [length, peak, cut, activation, text, patch, known] = example;
    const levels = rest.subarray(cursor.at, cursor.at += length);
    const heat = onImages() ? rest.subarray(cursor.at, cursor.at += nPatches()) : null;
    examplesOf.set(example, { tokens: tokens[i], levels, peak, cut, activation, text, patch, known, heat });
  });
  const words = pairs => pairs.map(([number, value]) => [part.words[number], value]);
  for (const feature of part.features) {
    for (const group of feature.groups) group.examples = group.examples.map(e => examplesOf.get(e));
    for (const name of ["tokens", "promoted", "suppressed"]) feature[name] = words(feature[name]);
  }
  return part.features;
}
const examplesOf = new WeakMap();

/* The details of a feature; rejects with a message for the reader where they cannot be read. */
async function detailsOf(feature) {
  const place = placeOf.get(feature);
  const number = Math.floor(place / index.part_size);
  if (!parts.has(number)) {
    parts.set(number, packedPart(number).then(readPart));
    parts.get(number).catch(() => parts.delete(number));
  }
  return (await parts.get(number))[place % index.part_size];
}

function packedPart(number) {
  const inside = document.getElementById(`part-${number}`);
  return inside ? Promise.resolve(inside.textContent) : partBeside(index.parts[number]);
}

/* A part that lies beside the page is a script, since a page opened as a file may fetch nothing. */
function partBeside(name) {
  if (asked.has(name)) return asked.get(name);
  const promise = loadedPart(name).finally(() => asked.delete(name));
  asked.set(name, promise);
  return promise;
}
const asked = new Map();       // promises of parts that are being loaded

function loadedPart(name) {
  const file = `${index.folder}/${name}.js`;
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const fail = why => {
      awaited.delete(name);
      script.remove();
      reject(new Error(`The details are in ${decodeURI(file)}, ${why} Keep that folder beside ` +
        "the page, both from the same run, or write the page again."));
    };
    awaited.set(name, text => {
      awaited.delete(name);
      script.remove();
      resolve(text);
    });
    script.onerror = () => fail("which cannot be read.");
    script.onload = () => awaited.has(name) && fail("which is not what this page was written with.");
    script.src = file;
    document.head.append(script);
  });
}

window.sksaePart = (name, text) => awaited.has(name) && awaited.get(name)(text);
