// Who waits at the door: a name, the code on its screen, yes or no. For whoever runs the swarm.

import { askAsOwner, isOwner } from "/web/api.js";
import { byId, element } from "/web/elements.js";
import { tell } from "/web/map.js";

const LOOK_EVERY_MS = 2000;
let shown = "";

/** Look for ever, while this page is its owner's and somebody sees it. */
export async function watchDoor() {
  for (;;) {
    if (isOwner() && !document.hidden) await look();
    if (!isOwner()) draw([]);
    await new Promise((resume) => setTimeout(resume, LOOK_EVERY_MS));
  }
}

async function look() {
  try {
    draw((await askAsOwner("/swarm/newcomers")).newcomers);
  } catch {
    draw([]); // what is wrong with the server is told on the map
  }
}

function draw(newcomers) {
  const now = JSON.stringify(newcomers);
  if (now === shown) return; // a button that is about to be pressed stays where it is
  shown = now;
  byId("door").hidden = newcomers.length === 0;
  byId("newcomers").replaceChildren(...newcomers.map(row));
}

function row({ name, code }) {
  const said = element("p", { className: "wrong" });
  said.setAttribute("role", "alert");
  const answer = (approve) => async () => {
    try {
      await askAsOwner("/swarm/newcomers", { body: { code, approve } });
      tell(`${name} (${code}) is ${approve ? "let in" : "refused"}`, approve ? "good" : "");
    } catch (error) {
      said.textContent = error.message;
    }
    await look();
  };
  const yes = element("button", { type: "button", onclick: answer(true) }, "Let in");
  const no = element("button", { type: "button", className: "quiet", onclick: answer(false) }, "Refuse");
  yes.ariaLabel = `Let in ${name}, code ${code}`;
  no.ariaLabel = `Refuse ${name}, code ${code}`;
  const asks = element("p", {}, element("strong", {}, name), " asks to join. Only if its screen shows");
  const digits = element("p", { className: "code" }, code);
  return element("li", {}, asks, digits, element("p", { className: "buttons" }, yes, no), said);
}
