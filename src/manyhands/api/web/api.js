// Asks the server: JSON, and streams of events. Knows the key; nothing of what is shown.

const KEY = "manyhands-key";
const OWNER = "manyhands-owner"; // the key of a page that whoever runs the swarm has opened
let askForKey = async () => null;
let ownerChanged = () => {};

/** `ask(wasWrong)` resolves to a key; it is called when the server wants one. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** `told(isOwner)` is called when this page becomes its owner's, and when it is no more. */
export function onOwner(told) {
  ownerChanged = told;
  told(isOwner());
}

export const isOwner = () => sessionStorage.getItem(OWNER) !== null;

/** Change the pass of a link for a key. Throws Refused. */
export async function becomeOwner(pass) {
  const { key } = await (await ask("/swarm/key", { body: { pass } })).json();
  sessionStorage.setItem(OWNER, key);
  ownerChanged(true);
}

/** What `ask` answers to whoever runs the swarm. Throws Refused. */
export async function askAsOwner(path, options = {}) {
  try {
    const response = await ask(path, { ...options, owner: sessionStorage.getItem(OWNER) ?? "" });
    return await response.json();
  } catch (error) {
    if (error.status === 403 && isOwner()) {
      sessionStorage.removeItem(OWNER); // of a server that has ended
      ownerChanged(false);
    }
    throw error;
  }
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** A response that is fine. Throws Refused with the server's own words. */
export async function ask(path, { body, signal, owner } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = {};
    if (key) headers.authorization = `Bearer ${key}`;
    if (owner !== undefined) headers["x-manyhands-control"] = owner;
    if (body) headers["content-type"] = "application/json";
    const response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      signal,
      cache: "no-store",
    });
    if (response.ok) return response;
    if (response.status !== 401) throw await refused(response);
    if (sessionStorage.getItem(KEY) === key) {
      sessionStorage.setItem(KEY, await askForKey(key !== null));
    }
  }
}

async function refused(response) {
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not one of our errors: its status says all there is
  }
  return new Refused(response.status, message);
}

/** The events of a stream, as {name, data, comment}, until it ends. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) yield parse(block);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parse(block) {
  const made = { name: "message", data: null, comment: null };
  for (const line of block.split("\n")) {
    if (line.startsWith("data: ")) made.data = (made.data ?? "") + line.slice(6);
    else if (line.startsWith("event: ")) made.name = line.slice(7);
    else if (line.startsWith(": ")) made.comment = line.slice(2);
  }
  return made;
}

/**
 * Speaks one answer: `onText(text)` for each piece, `onRecovered(seconds)` when a peer was lost.
 * Resolves to {tokens, finish}. Throws Refused, or AbortError when `signal` stops it.
 */
export async function speak(path, body, { signal, onText, onRecovered }) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await ask(path, { body: asked, signal });
  const told = { tokens: 0, finish: null };
  for await (const { name, data, comment } of events(response)) {
    if (comment?.startsWith("manyhands ")) {
      const remark = JSON.parse(comment.slice("manyhands ".length));
      if (remark.recovered_s !== undefined) onRecovered(remark.recovered_s);
    }
    if (data === null) continue;
    if (data === "[DONE]") return told;
    const said = JSON.parse(data);
    if (name === "error" || said.error) throw new Refused(0, said.error.message);
    if (said.usage) told.tokens = said.usage.completion_tokens;
    for (const choice of said.choices) {
      const text = choice.delta ? choice.delta.content : choice.text;
      if (text) onText(text);
      told.finish = choice.finish_reason ?? told.finish;
    }
  }
  throw new Refused(0, "the connection to the server was lost");
}
