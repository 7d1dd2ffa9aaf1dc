// The API's page, made from openapi.json: nothing of it is loaded from elsewhere.

import { byId, element } from "/web/elements.js";

const schema = await (await fetch("/openapi.json")).json();

byId("about").textContent = `Version ${schema.info.version}. ${schema.info.description}`;
byId("example").textContent = [
  `curl ${location.origin}/v1/chat/completions \\`,
  "  -H 'content-type: application/json' \\",
  `  -d '{"messages": [{"role": "user", "content": "Tell me a story"}], "stream": true}'`,
].join("\n");

const groups = new Map();
for (const [path, methods] of Object.entries(schema.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const tag = about.tags?.[0] ?? "Other";
    if (!groups.has(tag)) groups.set(tag, []);
    groups.get(tag).push(operation(path, method, about));
  }
}
for (const [tag, operations] of groups) {
  byId("paths").append(element("h2", {}, tag), ...operations);
}

function operation(path, method, about) {
  const title = element(
    "summary",
    {},
    element("span", { className: "method" }, method.toUpperCase()),
    element("code", {}, path),
    ` — ${about.summary}`,
  );
  const made = element("details", {}, title);
  const body = about.requestBody?.content?.["application/json"]?.schema;
  if (body) made.append(fields(resolve(body)));
  else made.append(element("p", { className: "about" }, "No body."));
  return element("article", {}, made);
}

function resolve(value) {
  const name = value.$ref?.split("/").at(-1);
  return name ? schema.components.schemas[name] : value;
}

function fields(object) {
  const needed = new Set(object.required ?? []);
  const rows = Object.entries(object.properties ?? {}).map(([name, value]) =>
    element(
      "tr",
      {},
      element("td", {}, element("code", {}, name), needed.has(name) ? " (needed)" : ""),
      element("td", {}, kind(value)),
      element("td", {}, value.description ?? ""),
    ),
  );
  const head = element("tr", {}, ...["field", "value", ""].map((text) => element("th", {}, text)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}

/** What a field may hold, in words. */
function kind(value) {
  const options = value.anyOf?.filter((option) => option.type !== "null");
  if (options) return options.map(kind).join(" or ");
  const found = resolve(value);
  if (found.enum) return found.enum.join(", ");
  if (found.type === "array") return `list of ${kind(found.items ?? {})}`;
  if (found.type === "object" && found.properties) return `{${Object.keys(found.properties).join(", ")}}`;
  const range = [];
  if (found.minimum !== undefined) range.push(`from ${found.minimum}`);
  if (found.maximum !== undefined) range.push(`to ${found.maximum}`);
  return [found.type ?? "any", ...range].join(" ");
}
