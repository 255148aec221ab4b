/** Create elements. Text is inserted as text, never as markup, so names cannot run code. */

const SVG = "http://www.w3.org/2000/svg";

/** Return an HTML element with attributes, listeners ("onclick") and children. */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return an SVG element. */
function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Return text that only screen readers read. */
function spoken(text) {
  return element("span", { class: "spoken" }, text);
}

/** Return a `details` element with a summary, attributes and children. */
function folded(summary, attributes, ...children) {
  return element("details", attributes, element("summary", {}, summary), ...children);
}

/** Return a `details` element with a list of lines under a heading; null without lines. */
function foldedLines(heading, lines, attributes = {}) {
  if (!lines.length) return null;
  const items = lines.map((line) => element("li", {}, line));
  return folded(`${heading} (${lines.length})`, attributes, element("ul", {}, ...items));
}

/** Return a table without controls, in a region that scrolls. */
function plainTable(label, titles, rows) {
  const head = titles.map((title) => element("th", { scope: "col" }, title));
  const body = rows.map(([first, ...rest]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, first),
      ...rest.map((cell) => element("td", {}, cell)),
    ),
  );
  const table = element(
    "table",
    {},
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...body),
  );
  const region = { class: "scroll", tabindex: 0, role: "region", "aria-label": label };
  return element("div", region, table);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "colour") paint(node, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Give an element of class "mark" its colours on the light and on the dark page. */
function paint(node, [light, dark]) {
  node.style.setProperty("--light", light);
  node.style.setProperty("--dark", dark);
}
