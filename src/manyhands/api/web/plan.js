// A plan: what this swarm, and more devices, would do with a model, before anything is loaded.

import { askAsOwner } from "/web/api.js";
import { bar, byId, called, count, element, hue, layers, onGrid, size } from "/web/elements.js";

let peers = new Map(); // of the newest snapshot, by id

/** Make the form work. */
export function startPlans() {
  byId("plan-form").addEventListener("submit", (event) => {
    event.preventDefault();
    plan();
  });
  byId("plan").addEventListener("toggle", fill);
}

/** Called with every snapshot of the swarm. */
export function showNames(snapshot) {
  peers = new Map(snapshot.peers.map((peer) => [peer.id, peer]));
}

/** Names to choose from, once. */
async function fill() {
  const names = byId("plan-names");
  if (!byId("plan").open || names.children.length) return;
  try {
    const { models, formats } = await askAsOwner("/swarm/plan");
    names.replaceChildren(...models.map((value) => element("option", { value })));
    byId("plan-format").replaceChildren(...formats.map((name) => element("option", {}, name)));
    if (!byId("plan-model").value) byId("plan-model").value = models[0];
  } catch (error) {
    byId("plan-wrong").textContent = error.message;
  }
}

async function plan() {
  const button = byId("plan-make");
  button.disabled = true;
  byId("plan-wrong").textContent = "";
  byId("plan-said").textContent = "Counting; a machine that was not measured yet takes some seconds …";
  const body = {
    model: byId("plan-model").value.trim(),
    format: byId("plan-format").value || "auto",
    more: Number(byId("plan-more").value),
  };
  try {
    show(await askAsOwner("/swarm/plan", { body }));
  } catch (error) {
    byId("plan-made").hidden = true;
    byId("plan-said").textContent = "";
    byId("plan-wrong").textContent = error.message;
  }
  button.disabled = false;
}

function show(found) {
  const need = `${size(found.needed_bytes)} with memory for ${found.context.toLocaleString("en")} tokens`;
  const busy = found.busy >= 0.25 ? ` ${Math.round(found.busy * 100)} % busy while measured: figures are low.` : "";
  byId("plan-said").textContent =
    `${found.model} in ${found.format}, ${need}. Predicted, nothing is loaded.${busy}`;
  const names = naming(found);
  const all = found.stages.at(-1).last;
  onGrid(byId("plan-bars"), all, found.stages.map((stage) => held(stage, names)));
  byId("plan-stages").replaceChildren(...found.stages.map((stage) => row(stage, names)));
  byId("plan-figures").replaceChildren(...figures(found).flatMap(figure));
  byId("plan-out").textContent = found.left_out.length
    ? `Left out, as one answer would be no quicker with it: ${found.left_out.map(names).join(", ")}.`
    : "";
  byId("plan-made").hidden = false;
}

/** Peers by their names; those who are not here are further devices, in a row. */
function naming({ stages, left_out: out }) {
  const ids = [...stages.map(({ peer }) => peer), ...out].filter((id) => !peers.has(id));
  const further = [...new Set(ids)].sort();
  return (id) => {
    const known = peers.get(id);
    if (known) return known.is_me ? "this peer" : called(known);
    return `device ${further.indexOf(id) + 1} more`;
  };
}

function held(stage, names) {
  const made = bar(stage, "ready", `${layers(stage)}: ${names(stage.peer)}`);
  made.style.setProperty("--hue", hue(stage.peer));
  return made;
}

function row(stage, names) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, names(stage.peer)),
    element("td", {}, layers(stage)),
    element("td", { className: "figure" }, `${(stage.seconds * 1000).toFixed(1)} ms`),
  );
}

function figures(found) {
  const rate = (tokens) => `${tokens.toFixed(1)} tok/s`;
  const alone = found.alone_tok_s === null ? "it fits on none" : rate(found.alone_tok_s);
  return [
    ["One answer", rate(found.answer_tok_s)],
    ["First token", `${found.first_token_s.toFixed(1)} s behind ${count(found.prompt_tokens, "token")}`],
    ["Many at once", `${rate(found.total_tok_s)} by ${found.many.by}`],
    ["One device alone", alone],
  ];
}

const figure = ([name, value]) => [element("dt", {}, name), element("dd", {}, value)];
