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
