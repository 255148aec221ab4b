/** The figures of validation accuracy against steps and against seconds: means over seeds. */

/** Return a row's curve: for each step with a reading, mean seconds, mean accuracy and range. */
function meanCurve(row) {
  const readings = new Map();
  for (const [steps, seconds, accuracies] of row.curves) {
    steps.forEach((step, index) => {
      const found = readings.get(step) ?? [];
      readings.set(step, [...found, [seconds[index], accuracies[index]]]);
    });
  }
  const byStep = [...readings].sort(([a], [b]) => a - b);
  return byStep.map(([step, found]) => {
    const accuracies = found.map(([, accuracy]) => accuracy);
    return {
      steps: step,
      seconds: mean(found.map(([seconds]) => seconds)),
      accuracy: mean(accuracies),
      low: least(accuracies),
      high: largest(accuracies),
      seeds: found.length,
    };
  });
}

/** Return the chart against "steps" or "seconds"; null if no row has a curve. */
function drawCurves(rows, against, width) {
  const curves = rows
    .filter((row) => row.curves.length)
    .map((row) => ({ row, readings: meanCurve(row) }));
  if (!curves.length) return null;
  const label = `Validation accuracy against ${against}, ${counted(curves.length, "row")}`;
  const chart = newChart(width, 300, label);
  const { x, y } = curveAxes(chart, curves, against, width);
  for (const { row, readings } of curves) drawCurve(chart, row, readings, against, x, y);
  for (const { row, readings } of curves) drawReadings(chart, row, readings, against, x, y);
  return openToKeys(chart);
}

function curveAxes(chart, curves, against, width) {
  const every = curves.flatMap(({ readings }) => readings);
  const right = largest(every.map((found) => found[against]));
  const lowest = least(every.map(({ accuracy }) => accuracy));
  const highest = largest(every.map(({ accuracy }) => accuracy));
  const edge = Math.max(0.01, (highest - lowest) * 0.06);
  const [low, high] = [Math.max(0, lowest - edge), Math.min(1, highest + edge)];
  const unit = against === "steps" ? page.units.count : page.units.seconds;
  const title = against === "steps" ? "optimizer steps" : "seconds of training (not in turns)";
  const x = scaleOf(0, right * 1.03, chart.left, chart.right);
  const y = scaleOf(low, high, chart.bottom, chart.top);
  axisBelow(chart, ticksOf(unit, 0, right, Math.max(2, Math.min(8, width / 90))), x, title);
  axisLeft(chart, ticksOf(page.units.share, low, high, 5), y, "validation accuracy");
  return { x, y };
}

function drawCurve(chart, row, readings, against, x, y) {
  const places = readings.map((found) => `${x(found[against])} ${y(found.accuracy)}`);
  const group = drawn("g", { class: "mark", colour: row.colour, "aria-hidden": "true" });
  const d = `M${places.join("L")}`;
  group.append(drawn("path", { class: "stroke", d, "stroke-dasharray": dashesOf(row) }));
  chart.svg.append(group);
}

function drawReadings(chart, row, readings, against, x, y) {
  for (const found of readings) {
    const d = shapePath(shapeOf(row), x(found[against]), y(found.accuracy), 3.5);
    const kind = { class: "mark fill outlined", colour: row.colour, d };
    chart.svg.append(point("path", kind, readingText(row, found)));
  }
}

function readingText(row, found) {
  const range = `[${format(page.units.share, found.low)}, ${format(page.units.share, found.high)}]`;
  const spreadOf = found.seeds > 1 ? `, mean of ${found.seeds} seeds ${range}` : ", 1 seed";
  return [
    row.label,
    `after ${counted(found.steps, "step")}, ${named(page.units.seconds, found.seconds)}`,
    `accuracy ${format(page.units.share, found.accuracy)}${spreadOf}`,
  ].join("\n");
}
