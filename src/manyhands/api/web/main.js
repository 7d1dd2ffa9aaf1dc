// Starts the page: the key, the chat, the map.

import { onKeyNeeded } from "/web/api.js";
import { showModels, startChat } from "/web/chat.js";
import { byId, duration } from "/web/elements.js";
import { followSwarm, tell } from "/web/map.js";

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
followSwarm((snapshot) => showModels(snapshot.models));
