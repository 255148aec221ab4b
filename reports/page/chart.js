/** The parts of all charts: a frame, axes, focusable points, a legend. */

const INK_ROOM = { left: 56, right: 16, top: 12, bottom: 44 };
const SHAPES = ["circle", "square", "diamond", "up", "down", "cross"];
const DASHES = ["", "6 3", "2 2", "8 3 2 3"];

/** Return an empty chart: its svg and the box inside its axes. */
function newChart(width, height, label, room = INK_ROOM) {
  const svg = drawn("svg", {
    class: "chart",
    viewBox: `0 0 ${width} ${height}`,
    role: "group",
    "aria-label": `${label}. Use the arrow keys to move between values.`,
  });
  svg.addEventListener("keydown", moveFocus);
  return {
    svg,
    left: room.left,
    right: width - room.right,
    top: room.top,
    bottom: height - room.bottom,
  };
}

/** Return the function that maps low..high linearly to from..to. */
function scaleOf(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** Return round values between low and high, in the scale of a unit, with their texts. */
function ticksOf(unit, low, high, count) {
  const [first, last] = [low / unit.scale, high / unit.scale];
  const step = roundStep((last - first || 1) / count);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let index = Math.ceil(first / step - 1e-9); index * step <= last + step * 1e-9; index += 1) {
    ticks.push({ value: index * step * unit.scale, text: grouped((index * step).toFixed(digits)) });
  }
  return ticks;
}

/** Return the smallest 1, 2 or 5 times a power of ten that is not below a number. */
function roundStep(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].find((times) => times * power >= number * (1 - 1e-9)) * power;
}

/** Draw the axis below the chart; `ticks` are values with texts. */
function axisBelow(chart, ticks, place, title) {
  const marks = ticks.flatMap(({ value, text }) => [
    line("grid", place(value), chart.top, place(value), chart.bottom),
    drawn("text", { x: place(value), y: chart.bottom + 16, "text-anchor": "middle" }, text),
  ]);
  const middle = (chart.left + chart.right) / 2;
  const heading = { class: "title", x: middle, y: chart.bottom + 36, "text-anchor": "middle" };
  chart.svg.append(
    hidden(...marks, line("axis", chart.left, chart.bottom, chart.right, chart.bottom)),
    hidden(drawn("text", heading, title)),
  );
}

/** Draw the axis at the left. */
function axisLeft(chart, ticks, place, title) {
  const marks = ticks.flatMap(({ value, text }) => [
    line("grid", chart.left, place(value), chart.right, place(value)),
    drawn("text", { x: chart.left - 6, y: place(value) + 4, "text-anchor": "end" }, text),
  ]);
  const middle = (chart.top + chart.bottom) / 2;
  const turn = `translate(14 ${middle}) rotate(-90)`;
  const heading = { class: "title", transform: turn, "text-anchor": "middle" };
  chart.svg.append(hidden(...marks, drawn("text", heading, title)));
}

/** Return a line. */
function line(kind, x1, y1, x2, y2) {
  return drawn("line", { class: kind, x1, y1, x2, y2 });
}

/** Return a group hidden from screen readers, whose content is elsewhere as text. */
function hidden(...children) {
  return drawn("g", { "aria-hidden": "true" }, ...children);
}

/** Return a mark that shows its values on hover and on focus. */
function point(tag, attributes, text) {
  return drawn(tag, {
    ...attributes,
    class: `point ${attributes.class ?? ""}`,
    role: "img",
    "aria-label": text.replaceAll("\n", ", "),
    "data-tip": text,
    tabindex: -1,
  });
}

/** Make the first point of a finished chart focusable; arrow keys move to the others. */
function openToKeys(chart) {
  chart.svg.querySelector(".point")?.setAttribute("tabindex", 0);
  return chart.svg;
}

function moveFocus(event) {
  const points = [...event.currentTarget.querySelectorAll(".point")];
  const here = points.indexOf(document.activeElement);
  const [back, on] = [here - 1, here + 1];
  const arrows = { ArrowRight: on, ArrowDown: on, ArrowLeft: back, ArrowUp: back };
  const next = { ...arrows, Home: 0, End: points.length - 1 }[event.key];
  if (next === undefined || here < 0) return;
  event.preventDefault();
  const target = points[Math.max(0, Math.min(points.length - 1, next))];
  points[here].setAttribute("tabindex", -1);
  target.setAttribute("tabindex", 0);
  target.focus();
}

/** Return the path of a marker around (x, y). */
function shapePath(shape, x, y, size) {
  const [s, a, w, h, t] = [size, 1.4 * size, 1.2 * size, 2.2 * size, 0.67 * size];
  return {
    circle: `M${x - s} ${y}a${s} ${s} 0 1 0 ${2 * s} 0a${s} ${s} 0 1 0 ${-2 * s} 0z`,
    square: `M${x - s} ${y - s}h${2 * s}v${2 * s}h${-2 * s}z`,
    diamond: `M${x} ${y - a}l${a} ${a}l${-a} ${a}l${-a} ${-a}z`,
    up: `M${x} ${y - w}l${w} ${h}h${-2 * w}z`,
    down: `M${x} ${y + w}l${w} ${-h}h${-2 * w}z`,
    cross: `M${x - s} ${y - t / 2}h${t}v${-t}h${t}v${t}h${t}v${t}h${-t}v${t}h${-t}v${-t}h${-t}z`,
  }[shape];
}

/** Return the shape and the dashes that distinguish rows of one colour. */
function shapeOf(row) {
  return SHAPES[row.variant % SHAPES.length];
}

function dashesOf(row) {
  return DASHES[row.variant % DASHES.length] || null;
}

/** Return a legend; items are {text, colour, swatch}, and a swatch is an svg shape of 20 by 12. */
function legend(items) {
  const lines = items.map(({ text, colour, swatch }) => {
    const picture = drawn("svg", { viewBox: "0 0 20 12", "aria-hidden": "true" }, swatch);
    return element("li", { class: "mark", colour }, picture, element("span", {}, text));
  });
  return element("ul", { class: "legend" }, ...lines);
}

/** Return a legend of rows, as lines or as markers. */
function rowLegend(rows, kind, textOf = (row) => row.label) {
  const attributes = {
    line: (row) => ({ class: "stroke", d: "M0 6h20", "stroke-dasharray": dashesOf(row) }),
    marker: (row) => ({ class: "fill", d: shapePath(shapeOf(row), 10, 6, 4.5) }),
    box: (row) => ({ class: `fill v${row.variant % 4}`, d: "M3 0h14v12h-14z" }),
  }[kind];
  const swatch = (row) => drawn("path", attributes(row));
  const item = (row) => ({ text: textOf(row), colour: row.colour, swatch: swatch(row) });
  return legend(rows.map(item));
}

/** Shorten an svg text until it fits; its title has the full text. */
function fitText(node, width) {
  const whole = node.textContent;
  let kept = whole.length;
  while (kept > 4 && node.getComputedTextLength() > width) {
    kept = Math.min(kept - 1, Math.floor((kept * width) / node.getComputedTextLength()));
    node.textContent = `${whole.slice(0, kept)}…`;
  }
  if (kept < whole.length) node.append(drawn("title", {}, whole));
}
