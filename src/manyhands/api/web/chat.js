// The chat: what was said, the answer as it comes, stop, retry, settings.

import { Refused, speak } from "/web/api.js";
import { byId, count, duration, element } from "/web/elements.js";

const messages = byId("messages");
const prompt = byId("prompt");
const said = []; // {role, content}, as the API takes them
let models = [];
let speaking = null; // an AbortController while an answer comes
let tellRecovery = () => {};

/** `told(seconds)` is called when an answer went on after a loss. */
export function startChat(told) {
  tellRecovery = told;
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  prompt.addEventListener("input", grow);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") speaking?.abort();
  });
  byId("stop").addEventListener("click", () => speaking?.abort());
  byId("new").addEventListener("click", clear);
  byId("model").addEventListener("change", showAbilities);
  const temperature = byId("temperature");
  temperature.addEventListener("input", () => {
    byId("temperature-shown").value = Number(temperature.value).toFixed(2);
  });
  temperature.dispatchEvent(new Event("input"));
  prompt.focus();
}

/** What can be asked; called with every snapshot of the swarm. */
export function showModels(served) {
  const names = served.map((model) => model.name).join("\n");
  const before = models.map((model) => model.name).join("\n");
  models = served;
  if (names === before) return;
  const select = byId("model");
  const chosen = select.value;
  select.replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
  if (models.some(({ name }) => name === chosen)) select.value = chosen;
  select.disabled = models.length < 2;
  showAbilities();
}

function model() {
  return models.find(({ name }) => name === byId("model").value) ?? models[0];
}

function showAbilities() {
  byId("system-field").hidden = !model()?.hears_system;
  byId("most").max = model()?.context ?? "";
  prompt.placeholder = model()?.chats === false ? "Begin a text; it goes on" : "Write a message";
}

function grow() {
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight + 2}px`;
}

function clear() {
  speaking?.abort();
  said.length = 0;
  messages.replaceChildren();
  byId("empty").hidden = false;
  prompt.focus();
}

async function send() {
  const text = prompt.value;
  if (speaking || !text.trim()) return;
  prompt.value = "";
  grow();
  byId("empty").hidden = true;
  said.push({ role: "user", content: text });
  messages.append(element("li", { className: "user" }, element("p", {}, text)));
  await answer();
}

function request() {
  const body = {
    model: model()?.name,
    temperature: Number(byId("temperature").value),
    max_tokens: Math.max(1, Math.round(Number(byId("most").value)) || 600),
  };
  const seed = byId("seed").value;
  if (seed !== "") body.seed = Number(seed);
  if (model()?.chats === false) {
    return ["/v1/completions", { ...body, prompt: said.at(-1).content }];
  }
  const system = byId("system").value.trim();
  const first = system && model()?.hears_system ? [{ role: "system", content: system }] : [];
  return ["/v1/chat/completions", { ...body, messages: [...first, ...said] }];
}

async function answer() {
  const text = element("p", {});
  const facts = element("p", { className: "facts" });
  const item = element("li", { className: "assistant", ariaBusy: "true" }, text, facts);
  messages.append(item);
  speaking = new AbortController();
  busy(true);
  const clock = { begun: performance.now(), first: 0, pieces: 0 };
  const recovered = [];
  const show = (end, tokens = clock.pieces) => {
    facts.textContent = [...described(clock, tokens, recovered), ...end].join(" · ");
  };
  let end = [];
  let tokens;
  try {
    const told = await speak(...request(), {
      signal: speaking.signal,
      onText(piece) {
        clock.first ||= performance.now();
        clock.pieces += 1;
        const atEnd = isAtEnd();
        text.append(piece);
        show([]);
        if (atEnd) messages.scrollTop = messages.scrollHeight;
      },
      onRecovered(seconds) {
        recovered.push(seconds);
        tellRecovery(seconds);
      },
    });
    tokens = told.tokens;
    if (told.finish === "length") end = ["reached “Most tokens”, see Settings"];
  } catch (error) {
    end = [error.name === "AbortError" ? "stopped" : describe(error)];
    item.classList.toggle("failed", error.name !== "AbortError");
  }
  item.ariaBusy = "false";
  show(end, tokens);
  said.push({ role: "assistant", content: text.textContent });
  item.append(again(item));
  speaking = null;
  busy(false);
  messages.scrollTop = messages.scrollHeight;
}

function again(item) {
  for (const old of messages.querySelectorAll(".again")) old.remove();
  const button = element("button", { type: "button", className: "again quiet" }, "Try again");
  button.addEventListener("click", () => {
    if (speaking) return;
    said.pop();
    item.remove();
    answer();
  });
  return button;
}

function described(clock, tokens, recovered) {
  const parts = [];
  const passed = (performance.now() - clock.first) / 1000;
  if (tokens) parts.push(count(tokens, "token"));
  if (tokens > 2 && passed > 0) parts.push(`${((tokens - 1) / passed).toFixed(1)} tok/s`);
  for (const seconds of recovered) parts.push(`a peer was lost, recovered in ${duration(seconds)}`);
  return parts;
}

function describe(error) {
  return error instanceof Refused ? error.message : `the server cannot be reached (${error.message})`;
}

function isAtEnd() {
  return messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
}

function busy(isBusy) {
  const had = document.activeElement;
  byId("send").hidden = isBusy;
  byId("stop").hidden = !isBusy;
  if (had === byId("send") && isBusy) byId("stop").focus();
  if (had === byId("stop") && !isBusy) prompt.focus();
}
