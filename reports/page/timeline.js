/** The figure of live bytes during one training step, operator by operator. */

/** Return the chart; null if the page has no timeline of these rows. */
function drawTimeline(view, rows, width) {
  const shown = rows.filter((row) => row.timeline);
  if (!shown.length) return null;
  const names = shown.map((row) => row.label).join(", ");
  const chart = newChart(width, 320, `Counted memory through one training step of ${names}`);
  const right = largest(shown.map(({ timeline }) => timeline.x[timeline.x.length - 1]));
  const top = largest(shown.map(({ timeline }) => largest(timeline.bytes))) * 1.08;
  const x = scaleOf(0, right, chart.left, chart.right);
  const y = scaleOf(0, top, chart.bottom, chart.top);
  const { count, memory } = page.units;
  const below = "operators of one step, in order";
  axisBelow(chart, ticksOf(count, 0, right, Math.max(2, width / 110)), x, below);
  axisLeft(chart, ticksOf(memory, 0, top, 5), y, `counted bytes alive (${memory.name})`);
  for (const row of shown) drawAlive(chart, row, x, y);
  for (const row of shown) drawTurns(chart, row, x, y);
  followPointer(chart, shown, x, y);
  return openToKeys(chart);
}

function drawAlive(chart, row, x, y) {
  const { timeline } = row;
  const path = steps(timeline, x, y);
  const last = timeline.x[timeline.x.length - 1];
  const area = `${path}L${x(last)} ${y(0)}L${x(timeline.x[0])} ${y(0)}z`;
  const group = drawn("g", { class: "mark", colour: row.colour, "aria-hidden": "true" });
  group.append(
    drawn("path", { class: "area", d: area }),
    drawn("path", { class: "stroke", d: path, "stroke-dasharray": dashesOf(row) }),
  );
  chart.svg.append(group);
}

/** Return the path of a step function: each value holds until the next one. */
function steps(timeline, x, y) {
  const rest = timeline.x.slice(1).map((at, index) => `H${x(at)}V${y(timeline.bytes[index + 1])}`);
  return `M${x(timeline.x[0])} ${y(timeline.bytes[0])}${rest.join("")}`;
}

/** Mark the beginning of each phase, and the peak; these marks can be focused. */
function drawTurns(chart, row, x, y) {
  const { timeline } = row;
  const begins = new Map();
  for (const [at, phase] of timeline.phases) if (!begins.has(phase)) begins.set(phase, at);
  const turns = [...begins].map(([phase, at]) => [at, `${phase} begins`, "square"]);
  turns.push([timeline.bytes.indexOf(largest(timeline.bytes)), "peak", "diamond"]);
  turns.sort((a, b) => a[0] - b[0]);
  for (const [at, what, shape] of turns) {
    const d = shapePath(shape, x(timeline.x[at]), y(timeline.bytes[at]), 4.5);
    const text = `${row.label}: ${what}\n${momentText(timeline, at)}`;
    chart.svg.append(point("path", { class: "mark fill outlined", colour: row.colour, d }, text));
  }
}

function momentText(timeline, at) {
  const module = timeline.modules[timeline.module[at]] || "no module";
  const operator = timeline.operators[timeline.operator[at]];
  const bytes = named(page.units.memory, timeline.bytes[at]);
  return `${bytes} after operator ${timeline.x[at]}\n${operator} in ${module}`;
}

/** Show the values of the row nearest to the pointer. */
function followPointer(chart, rows, x, y) {
  const ring = drawn("circle", { class: "ring", r: 4, visibility: "hidden" });
  chart.svg.append(ring);
  chart.svg.addEventListener("pointermove", (event) => {
    if (event.target.closest(".point")) return;
    const frame = chart.svg.getBoundingClientRect();
    const ratio = chart.svg.viewBox.baseVal.width / frame.width;
    const across = (event.clientX - frame.left) * ratio;
    const down = (event.clientY - frame.top) * ratio;
    const { row, at } = nearest(rows, across, down, x, y);
    ring.setAttribute("cx", x(row.timeline.x[at]));
    ring.setAttribute("cy", y(row.timeline.bytes[at]));
    ring.setAttribute("visibility", "visible");
    showTip(`${row.label}\n${momentText(row.timeline, at)}`, ring.getBoundingClientRect());
  });
  chart.svg.addEventListener("pointerleave", () => {
    ring.setAttribute("visibility", "hidden");
    hideTip();
  });
}

/** Return the row whose line is vertically nearest to the pointer, and the moment there. */
function nearest(rows, across, down, x, y) {
  const found = rows.map((row) => {
    const at = momentAt(row.timeline.x, (index) => x(row.timeline.x[index]) > across);
    return { row, at, away: Math.abs(y(row.timeline.bytes[at]) - down) };
  });
  return found.reduce((best, other) => (other.away < best.away ? other : best));
}

/** Return the last index for which `beyond` is false, by bisection, because lists are long. */
function momentAt(list, beyond) {
  let [low, high] = [0, list.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (beyond(middle)) high = middle;
    else low = middle;
  }
  return low;
}
