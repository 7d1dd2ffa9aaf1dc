// An invite for one device: made, shown as text and picture, copied, over when its time is.

import { askAsOwner } from "/web/api.js";
import { byId } from "/web/elements.js";

const LONGEST_MS = 2 ** 31 - 1; // a timer's
let ending = 0;

/** Make the form work. */
export function startInvites() {
  byId("invite-form").addEventListener("submit", (event) => {
    event.preventDefault();
    invite();
  });
  byId("invite-copy").addEventListener("click", copy);
}

async function invite() {
  const button = byId("invite-make");
  button.disabled = true;
  byId("invite-wrong").textContent = "";
  const body = { life_s: Number(byId("invite-life").value) };
  const guest = Number(byId("invite-guest").value);
  if (guest) body.guest_s = guest;
  try {
    show(await askAsOwner("/swarm/invites", { body }));
  } catch (error) {
    byId("invite-wrong").textContent = error.message;
  }
  button.disabled = false;
}

function show({ link, life_s: life, qr }) {
  byId("invite-made").hidden = false;
  byId("invite-ways").hidden = false;
  byId("qr").setAttribute("viewBox", `0 0 ${qr.side} ${qr.side}`);
  byId("qr-path").setAttribute("d", qr.path);
  byId("invite-link").value = `hands join ${link}`;
  const until = new Date(Date.now() + life * 1000);
  const when = until.toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" });
  byId("invite-until").textContent = `For one device, good until ${when}.`;
  byId("invite-alone").hidden = !/:\/\/(127\.|localhost|\[?::1)/.test(link);
  clearTimeout(ending);
  ending = setTimeout(end, Math.min(life * 1000, LONGEST_MS));
  byId("invite-copy").textContent = "Copy";
}

function end() {
  byId("invite-ways").hidden = true;
  byId("invite-link").value = "";
  byId("invite-until").textContent = "This invite has ended; make another one.";
}

async function copy() {
  const field = byId("invite-link");
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    field.select(); // not allowed, as on a page that came by plain HTTP from elsewhere
    if (!document.execCommand("copy")) return;
  }
  byId("invite-copy").textContent = "Copied";
}
