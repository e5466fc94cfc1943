/* Searching the texts of examples, part after part, so that the page can be used meanwhile. */

const searching = { run: 0, terms: [], hits: new Map(), part: 0, timer: 0, kept: new Map(), room: 5e7 };
const PAUSE = 200;              // milliseconds after the last key
const AROUND = 24;              // characters before what was found
const plainly = text => text.normalize("NFC").toLowerCase();

/* Terms that nearly every text has are not looked for in texts. */
const isTelling = term => term.length > 1 || term > "\u00ff";

const nParts = () => Math.ceil(index.columns.feature.length / index.part_size);

function searchTexts(terms) {
  const same = terms.join(" ") === searching.terms.join(" ");
  if (same) return;
  clearTimeout(searching.timer);
  Object.assign(searching, { run: searching.run + 1, terms, hits: new Map(), part: 0 });
  if (terms.some(isTelling)) searching.timer = setTimeout(() => readTexts(searching.run), PAUSE);
  else searching.part = nParts();
  saySearched();
}

async function readTexts(run) {
  for (let part = 0; part < nParts(); part++) {
    let texts;
    try {
      texts = await textsOf(part);
    } catch (error) {
      if (run === searching.run) byId("also").textContent = error.message;
      return;
    }
    if (run !== searching.run) return;
    const before = searching.hits.size;
    texts.forEach((examples, i) => {
      const place = part * index.part_size + i, name = list.queries[place];
      const terms = searching.terms.filter(term => !name.includes(term));
      const hit = terms.length > 0 && examples.find(text => terms.every(term => text.includes(term)));
      if (hit) searching.hits.set(place, snippet(hit, terms));
    });
    searching.part = part + 1;
    if (searching.hits.size > before) refreshList();
    saySearched();
    await new Promise(resolve => setTimeout(resolve));
  }
}

/* The texts of the examples of a part, one list of strings per feature. */
async function textsOf(part) {
  if (searching.kept.has(part)) return searching.kept.get(part);
  const [header, rest] = await unpack(await packedPart(part));
  const words = header.words.map(plainly);
  const cursor = { at: 0 };
  let size = 0;
  const texts = header.features.map(feature => feature.groups.flatMap(group => group.examples.map(([length]) => {
    let text = "";
    for (let i = 0; i < length; i++) {
      text += words[readNumber(rest, cursor)];
    }
    size += text.length;
    return text;
  })));
  searching.room -= size;
  if (searching.room > 0) searching.kept.set(part, texts);
  return texts;
}

/* What stands around the first of the terms, as the text before, the term and the text after. */
function snippet(text, terms) {
  const at = Math.min(...terms.map(term => text.indexOf(term)));
  const term = terms.find(one => text.startsWith(one, at));
  const begin = Math.max(0, at - AROUND);
  return [(begin > 0 ? "…" : "") + text.slice(begin, at), term, text.slice(at + term.length, at + 80)];
}

function saySearched() {
  const more = [...searching.hits.keys()].filter(isWanted).length;
  const reading = searching.part < nParts() && searching.terms.length > 0;
  byId("also").textContent = [
    more > 0 && `and ${count(more)} more by their examples`, reading && "reading examples …",
  ].filter(Boolean).join(" · ");
}

/* Whether an example has all that is searched for. */
function isHit(tokens) {
  if (!searching.terms.some(isTelling)) return false;
  const text = plainly(tokens.join(""));
  return searching.terms.every(term => text.includes(term));
}
