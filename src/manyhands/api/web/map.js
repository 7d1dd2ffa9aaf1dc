// The map: peers and their layers as bars on one grid, what is missing, and what happens.

import { Refused, ask, events } from "/web/api.js";
import { byId, count, element, layers, span } from "/web/elements.js";

const GONE_FOR_MS = 8000; // a peer that went away stays on the map this long
const MOST_EVENTS = 60;
const STATES = ["stored", "draining", "fetching", "ready"]; // later ones are drawn over earlier ones
const ADJECTIVE = { ready: "loaded", fetching: "loading", draining: "held back", stored: "on disk" };

let shown = null; // the snapshot on the page
const gone = new Map(); // peer id -> the peer as it was

/** Follow the swarm for ever; `onSnapshot` gets each one. */
export async function followSwarm(onSnapshot) {
  for (let wait = 1000; ; wait = Math.min(wait * 2, 15000)) {
    try {
      const response = await ask("/swarm/events");
      for await (const { name, data } of events(response)) {
        if (name !== "swarm" || data === null) continue;
        const snapshot = JSON.parse(data);
        wait = 1000;
        byId("swarm").classList.remove("stale");
        tellDifference(shown, snapshot);
        shown = snapshot;
        onSnapshot(snapshot);
        draw();
      }
      state("the server has closed; looking for it", true);
    } catch (error) {
      state(error instanceof Refused ? error.message : "no connection; trying again", true);
    }
    byId("swarm").classList.add("stale");
    await new Promise((resume) => setTimeout(resume, wait));
  }
}

/** A line in the log of events. */
export function tell(text, kind = "") {
  const now = new Date().toLocaleTimeString([], { hour12: false });
  const log = byId("events");
  log.prepend(element("li", { className: kind }, element("time", {}, now), ` ${text}`));
  while (log.children.length > MOST_EVENTS) log.lastElementChild.remove();
}

function tellDifference(before, now) {
  if (before === null) return;
  const old = new Map(before.peers.map((peer) => [peer.id, peer]));
  const here = new Set(now.peers.map((peer) => peer.id));
  for (const peer of before.peers) {
    if (!here.has(peer.id)) tellGone(peer);
  }
  for (const peer of now.peers) {
    const was = old.get(peer.id);
    if (!was) tell(`${peer.short} joined`, "good");
    else if (peer.paused && peer.paused !== was.paused) tell(`${peer.short}: ${peer.paused}`);
    else if (was.paused && !peer.paused) tell(`${peer.short} gives again`, "good");
    gone.delete(peer.id);
    const had = new Set((was?.holdings ?? []).map(key));
    for (const holding of peer.holdings) {
      if (had.delete(key(holding)) || holding.state === "stored") continue;
      tell(`${peer.short}: ${layers(holding)} ${ADJECTIVE[holding.state]}`, "good");
    }
    for (const holding of was?.holdings ?? []) {
      if (holding.state === "ready" && had.has(key(holding))) {
        tell(`${peer.short}: ${layers(holding)} let go`);
      }
    }
  }
  tellMissing(before, now);
}

function tellGone(peer) {
  tell(`${peer.short} is gone`, "bad");
  gone.set(peer.id, peer);
  setTimeout(() => {
    if (gone.get(peer.id) === peer) gone.delete(peer.id);
    draw();
  }, GONE_FOR_MS);
}

const key = (holding) => `${holding.model}|${holding.state}|${span(holding)}`;

function tellMissing(before, now) {
  for (const model of now.models) {
    const was = before.models.find(({ name }) => name === model.name);
    if (model.missing.map(span).join() === (was?.missing ?? []).map(span).join()) continue;
    if (model.missing.length) tell(`nobody holds ${layers(...model.missing)}`, "bad");
    else tell("every layer is held again", "good");
  }
}

function draw() {
  const model = chosen();
  if (!model) return;
  const peers = [...shown.peers, ...gone.values()];
  const isMissing = model.missing.length > 0;
  const whole = isMissing
    ? `${layers(...model.missing)} missing`
    : `all ${model.layers} layers held`;
  state(`${count(shown.peers.length, "peer")} · ${whole}`, isMissing);
  byId("missing").textContent = isMissing ? whole : "";
  const coverage = byId("coverage");
  coverage.ariaLabel = whole;
  onGrid(coverage, model.layers, model.coverage.map(covered));
  byId("peers").replaceChildren(...peers.map((peer) => row(peer, model)));
}

function chosen() {
  const name = byId("model").value;
  return shown?.models.find((model) => model.name === name) ?? shown?.models[0];
}

function covered(run) {
  const who = run.state ? `${ADJECTIVE[run.state]} at ${count(run.peers, "peer")}` : "missing";
  return bar(run, run.state ?? "absent", `${layers(run)}: ${who}`);
}

function row(peer, model) {
  const mine = peer.holdings
    .filter((holding) => holding.model === model.name)
    .sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state));
  const isGone = gone.has(peer.id);
  const drawn = mine.filter((held) => !isGone || held.state !== "stored");
  const words = joined(mine).map(
    (held) => span(held) + (held.state === "ready" ? "" : ` ${ADJECTIVE[held.state]}`),
  );
  const bars = element("div", { className: "row-of-layers", ariaHidden: "true" });
  onGrid(bars, model.layers, drawn.map(held));
  const title = element("p", { className: "name", title: peer.id }, element("code", {}, peer.short));
  if (peer.is_me) title.append(element("span", { className: "badge" }, "this peer"));
  if (isGone) title.append(element("span", { className: "badge bad" }, "gone"));
  else if (peer.paused) title.append(element("span", { className: "badge" }, "gives nothing now"));
  const told = words.length ? `layers ${words.join(", ")}` : "no layers";
  title.append(element("span", { className: "layers" }, told));
  const why = peer.paused ? ` · ${peer.paused}` : "";
  const about = element("p", { className: "about" }, device(peer) + why);
  const made = element("li", { className: isGone ? "peer gone" : "peer" }, title, bars, about);
  made.style.setProperty("--hue", hue(peer.id));
  return made;
}

/** What is held besides the disk, spans that touch made one. */
function joined(holdings) {
  const made = [];
  const held = holdings.filter(({ state }) => state !== "stored");
  for (const { first, last, state } of held.sort((a, b) => a.first - b.first)) {
    const before = made.at(-1);
    if (before?.state === state && before.last >= first) before.last = Math.max(last, before.last);
    else made.push({ first, last, state });
  }
  return made;
}

function held(holding) {
  return bar(holding, holding.state, `${layers(holding)}: ${ADJECTIVE[holding.state]}`);
}

function onGrid(grid, columns, bars) {
  grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  grid.replaceChildren(...bars);
}

function bar({ first, last }, kind, title) {
  const made = element("i", { className: kind, title });
  made.style.gridColumn = `${first + 1} / ${last + 1}`;
  return made;
}

function device({ device: { kind, memory_bytes: bytes }, kernels }) {
  const parts = [kind, `${(bytes / 2 ** 30).toFixed(1)} GiB`];
  if (kernels) parts.push(kernels.split("-").slice(0, 2).join(" "));
  return parts.join(" · ");
}

/** A colour that stays with a peer. */
function hue(id) {
  return (parseInt(id.slice(0, 6), 16) * 137.508) % 360;
}

function state(text, isBad) {
  const shownState = byId("swarm-state");
  if (shownState.textContent !== text) shownState.textContent = text;
  shownState.classList.toggle("bad", isBad);
}
