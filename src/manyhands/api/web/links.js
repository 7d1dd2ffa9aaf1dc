// The links between peers, as they were measured: a table, the slowest first.

import { byId, called, count, element, milliseconds } from "/web/elements.js";

const SHOWN_OPEN = 6; // more of them are folded away until somebody wants them
let drawn = "";

/** ` · 2.1 ms from here`, where that was measured. */
export function wayTo(peer, { peer: me, links }) {
  const way = links.find(({ source, target }) => source === me && target === peer.id);
  return way ? ` · ${milliseconds(way.latency_s)} ms from here` : "";
}

/** Draw the links of a snapshot, unless they are as before. */
export function drawLinks({ peers, links }) {
  const pairs = paired(new Map(peers.map((peer) => [peer.id, peer])), links);
  const now = JSON.stringify(pairs);
  if (now === drawn) return;
  const folded = byId("links");
  folded.hidden = pairs.length === 0;
  if (drawn === "") folded.open = pairs.length <= SHOWN_OPEN;
  drawn = now;
  byId("links-summary").textContent = pairs.length ? told(pairs) : "";
  byId("links-rows").replaceChildren(...pairs.map(row));
}

/** For each two peers the way there and, where it was measured, back. */
function paired(here, links) {
  const found = new Map();
  for (const { source, target, latency_s: late, rate_bytes_per_s: rate } of links) {
    if (!here.has(source) || !here.has(target) || source === target) continue;
    const ends = [source, target].sort();
    const pair = found.get(ends.join()) ?? { ends: ends.map((id) => called(here.get(id))), ways: [] };
    pair.ways[source === ends[0] ? 0 : 1] = { late, rate };
    found.set(ends.join(), pair);
  }
  const slowest = ({ ways }) => Math.max(...ways.filter(Boolean).map(({ late }) => late));
  return [...found.values()].sort((a, b) => slowest(b) - slowest(a));
}

function told(pairs) {
  const late = pairs.flatMap(({ ways }) => ways.filter(Boolean).map((way) => way.late));
  const [least, most] = [Math.min(...late), Math.max(...late)].map(milliseconds);
  return ` ${count(pairs.length, "pair")}, ${least === most ? least : `${least} to ${most}`} ms`;
}

function row({ ends: [from, to], ways }) {
  const both = (write) => ways.map((way) => (way ? write(way) : "–")).join(" / ");
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("code", {}, from)),
    element("td", {}, element("code", {}, to)),
    element("td", { className: "figure" }, both(({ late }) => milliseconds(late))),
    element("td", { className: "figure" }, both(({ rate }) => (rate / 1e6).toFixed(0))),
  );
}
