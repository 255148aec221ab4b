/** The figure of accuracy against a cost, with the Pareto front. */

const MARK = 6;
const NAMED = 24; // points; with more, the chart has no names
const CHARACTER = 6.6; // approximate width of a character of a label, in pixels

/** Return the columns of costs; times that were not measured in turns are replaced by ratios. */
function costsOf(comparison) {
  const trained = trainedRows(comparison);
  const apart = !tookTurns(trained);
  const columns = page.costs.map((id) => {
    const column = columnOf(comparison, id);
    return column?.timed && apart ? columnOf(comparison, `${id}/ratio`) : column;
  });
  return columns.filter((column) => column && trained.some((row) => centreOf(row, column) !== null));
}

/** Return the rows that have an accuracy. */
function trainedRows(comparison) {
  const accuracy = columnOf(comparison, "accuracy_top1");
  return accuracy ? comparison.rows.filter((row) => centreOf(row, accuracy) !== null) : [];
}

/** Return the chart; null if no row has both numbers. */
function drawScatter(view, rows, cost, width) {
  const accuracy = columnOf(view.comparison, "accuracy_top1");
  const placed = rows
    .map((row) => scatterPoint(view, row, cost, accuracy))
    .filter(({ x, y }) => x !== null && y !== null);
  if (!placed.length) return null;
  const alike = haveSameSeeds(placed.map(({ row }) => row));
  const points = alike ? placed : placed.map(withSeeds);
  const over = cost.kind === "ratio" ? ` × ${view.base.label}` : "";
  const label = `Accuracy against ${cost.title}${over}, ${counted(points.length, "row")}`;
  const chart = newChart(width, 360, label);
  const places = scatterAxes(chart, points, { ...cost, title: cost.title + over }, accuracy);
  if (alike) drawFront(chart, points, places);
  for (const found of points) drawErrors(chart, found, places);
  for (const found of points) chart.svg.append(marker(found, places, view.base));
  if (points.length <= NAMED) chart.svg.append(labels(chart, points, places));
  return openToKeys(chart);
}

function scatterPoint(view, row, cost, accuracy) {
  const [across, up] = [reading(view, row, cost), reading(view, row, accuracy)];
  const text = [
    row.label,
    `accuracy ${inWords(accuracy, up)}`,
    `${cost.title.replace(/ [^ ]+$/, "")} ${inWords(cost, across)}`,
  ].join("\n");
  return { row, x: across.centre, y: up.centre, across, up, text };
}

/** Return a point whose text also names the seeds of its accuracy. */
function withSeeds(placed) {
  return { ...placed, text: `${placed.text}\nseeds: ${placed.row.texts.seeds[0]}` };
}

function scatterAxes(chart, points, cost, accuracy) {
  const tops = points.map(({ up, y }) => up.high ?? y);
  const lows = points.map(({ up, y }) => up.low ?? y);
  const rights = points.map(({ across, x }) => across.high ?? x);
  const edge = Math.max(0.01, (largest(tops) - least(lows)) * 0.08);
  const [low, high] = [Math.max(0, least(lows) - edge), Math.min(1, largest(tops) + edge)];
  const right = largest(rights) * 1.06;
  const x = scaleOf(0, right, chart.left, chart.right);
  const y = scaleOf(low, high, chart.bottom, chart.top);
  axisBelow(chart, ticksOf(cost.unit, 0, right, 6), x, cost.title);
  axisLeft(chart, ticksOf(accuracy.unit, low, high, 6), y, "test accuracy");
  return { x, y };
}

function drawFront(chart, points, { x, y }) {
  const front = paretoFront(points).map((found) => `${x(found.x)} ${y(found.y)}`);
  if (front.length < 2) return;
  chart.svg.append(hidden(drawn("path", { class: "front", d: `M${front.join("L")}` })));
}

function drawErrors(chart, { row, x, y, across, up }, places) {
  const bars = drawn("g", { class: "mark errors", colour: row.colour, "aria-hidden": "true" });
  const [left, middle] = [places.x(x), places.y(y)];
  if (up.low !== undefined) {
    bars.append(line("stroke", left, places.y(up.low), left, places.y(up.high)));
  }
  if (across.low !== undefined) {
    bars.append(line("stroke", places.x(across.low), middle, places.x(across.high), middle));
  }
  chart.svg.append(bars);
}

function marker({ row, x, y, text }, places, base) {
  const size = row === base ? MARK * 1.3 : MARK;
  const d = shapePath(shapeOf(row), places.x(x), places.y(y), size);
  const kind = row === base ? "mark fill outlined base" : "mark fill outlined";
  return point("path", { class: kind, colour: row.colour, d }, text);
}

/** Return the rows' names next to their points, if one of four positions is free. */
function labels(chart, points, places) {
  const markBox = ({ x, y }) => box(places.x(x) - MARK, places.y(y) - MARK, 2 * MARK, 2 * MARK);
  const barBox = ({ x, up }) => {
    const top = places.y(up.high ?? 0);
    return box(places.x(x) - 1, top, 2, places.y(up.low ?? 0) - top);
  };
  const spreads = points.filter(({ up }) => up.low !== undefined);
  const taken = [...points.map(markBox), ...spreads.map(barBox)];
  const group = hidden();
  for (const { row, x, y } of points) {
    const text = row.label.length > 28 ? `${row.label.slice(0, 27)}…` : row.label;
    const free = freePlace(chart, taken, places.x(x), places.y(y), text.length * CHARACTER);
    if (!free) continue;
    taken.push(free);
    group.append(drawn("text", { class: "name", x: free.left, y: free.top + 11 }, text));
  }
  return group;
}

function freePlace(chart, taken, x, y, wide) {
  const away = MARK + 4;
  const tries = [
    box(x + away, y - 7, wide, 14),
    box(x - away - wide, y - 7, wide, 14),
    box(x - wide / 2, y - away - 14, wide, 14),
    box(x - wide / 2, y + away, wide, 14),
  ];
  const free = (place) => !taken.some((other) => overlap(place, other));
  return tries.find((place) => inside(chart, place) && free(place));
}

function box(left, top, width, height) {
  return { left, top, right: left + width, bottom: top + height };
}

function inside(chart, place) {
  const across = place.left >= chart.left && place.right <= chart.right;
  return across && place.top >= chart.top && place.bottom <= chart.bottom;
}

function overlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}
