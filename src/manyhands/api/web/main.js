// Starts the page: the keys, the chat, the map, and what is for whoever runs the swarm.

import { becomeOwner, onKeyNeeded, onOwner } from "/web/api.js";
import { showModels, startChat } from "/web/chat.js";
import { watchDoor } from "/web/door.js";
import { byId, duration } from "/web/elements.js";
import { startInvites } from "/web/invite.js";
import { followSwarm, tell } from "/web/map.js";
import { showNames, startPlans } from "/web/plan.js";

let waiting = null; // one dialog for all that wait for a key

onKeyNeeded((wasWrong) => {
  waiting ??= askForKey(wasWrong).finally(() => {
    waiting = null;
  });
  return waiting;
});

function askForKey(wasWrong) {
  const dialog = byId("key-dialog");
  byId("key-wrong").textContent = wasWrong ? "That was not the key." : "";
  dialog.showModal();
  return new Promise((give) => {
    const form = byId("key-form");
    dialog.oncancel = (event) => event.preventDefault();
    form.onsubmit = (event) => {
      event.preventDefault();
      const key = byId("key").value;
      byId("key").value = "";
      dialog.close();
      give(key);
    };
  });
}

if (matchMedia("(max-width: 55rem)").matches) byId("swarm").open = false;
startChat((seconds) => tell(`an answer went on after ${duration(seconds)}`, "good"));
followSwarm((snapshot) => {
  showModels(snapshot.models);
  showNames(snapshot);
});

onOwner((isOwner) => {
  byId("owners").hidden = !isOwner;
  byId("not-owner").hidden = isOwner;
});
startInvites();
startPlans();
watchDoor();
usePass();
addEventListener("hashchange", usePass); // the link, opened in a tab that shows this page already

/** The pass of `hands page`'s link, taken out of the address at once. */
async function usePass() {
  const pass = new URLSearchParams(location.hash.slice(1)).get("pass");
  if (pass === null) return;
  history.replaceState(null, "", location.pathname);
  try {
    await becomeOwner(pass);
    byId("swarm").open = true;
  } catch (error) {
    byId("pass-wrong").textContent = error.message;
  }
}
