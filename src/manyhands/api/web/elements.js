// Builds elements. Text goes in as text, never as markup.

/** An element with properties, then children: elements or texts. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** `1 peer`, `2 peers`. */
export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

/** `4` or `4–7`, for the half-open range of layers [first, last). */
export const span = ({ first, last }) => (last - first === 1 ? `${first}` : `${first}–${last - 1}`);

/** `layer 4` or `layers 4–7, 9`, for one range or several. */
export function layers(...ranges) {
  const isOne = ranges.length === 1 && ranges[0].last - ranges[0].first === 1;
  return `${isOne ? "layer" : "layers"} ${ranges.map(span).join(", ")}`;
}

/** `140 ms` or `2.3 s`. */
export const duration = (seconds) =>
  seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;

/** `2.1 ms`, also below one. */
export const milliseconds = (seconds) => (seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0);

/** `8.1 GB`, as memory makers count. */
export function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.round(bytes / 1e3)} kB`;
}

/** What people call a peer, and a part of its id: several may have one name. */
export const called = ({ name, short }) => (name ? `${name} ${short.slice(0, 4)}` : short);

/** Put bars on a grid of so many columns: one a layer. */
export function onGrid(grid, columns, bars) {
  grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  grid.replaceChildren(...bars);
}

/** A bar over the layers [first, last). */
export function bar({ first, last }, kind, title) {
  const made = element("i", { className: kind, title });
  made.style.gridColumn = `${first + 1} / ${last + 1}`;
  return made;
}

/** A colour that stays with a peer. */
export const hue = (id) => (parseInt(id.slice(0, 6), 16) * 137.508) % 360;
