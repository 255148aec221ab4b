/** The details that open under a row: its trials, and the definitions of its numbers. */

/** Return the content of an opened row. */
function detailOf(view, row) {
  const parts = [linksOf(row)];
  if (row.trials) {
    parts.push(
      notesOf(row),
      folded("Measurements", { open: true }, measurementsOf(view, row)),
      samplesOf(row),
      curveOf(row),
      folded("Spec", {}, settingsTable(row, "Spec", (trial) => trial.spec)),
      folded("Environment", {}, settingsTable(row, "Environment", (trial) => trial.environment)),
    );
  } else {
    parts.push(element("p", {}, page.leftOut), measurementsOf(view, row));
  }
  return element("div", { class: "opened" }, ...parts);
}

function linksOf(row) {
  const links = row.keys.map(([key, role]) => link(`records/${fileName(key)}`, `record (${role})`));
  if (row.sidecar) links.push(link(`details/${fileName(row.sidecar)}`, "sidecar (profile)"));
  const parted = links.flatMap((found, place) => (place ? [", ", found] : [found]));
  return element("p", { class: "links" }, "Files: ", ...parted);
}

function link(href, text) {
  return element("a", { href }, text);
}

/** Return a key as the file name of a relative address, encoded so that it stays in its folder. */
function fileName(key) {
  return `${encodeURIComponent(key)}.json`;
}

function notesOf(row) {
  const lines = row.trials.flatMap((trial) => [
    ...(trial.status === "completed" ? [] : [`${trial.role}: ${trial.status} (${trial.reason})`]),
    ...trial.notes.map((note) => `${trial.role}: ${note}`),
  ]);
  if (!lines.length) return null;
  return element("ul", { class: "notes" }, ...lines.map((text) => element("li", {}, text)));
}

function measurementsOf(view, row) {
  const columns = view.comparison.columns.filter((column) => column.kind === "number");
  const rows = columns.map((column) => {
    const found = reading(view, row, column);
    const value = found.centre === null ? page.nothing : named(column.unit, found.centre);
    const spreadOf = found.count ? `${spreadText(column, found)} of ${found.count}` : "";
    return [column.metric, value, spreadOf, found.why ?? "", column.definition];
  });
  const titles = ["metric", "value", "spread of samples", "reason if missing", "definition"];
  const table = plainTable(`Measurements of ${row.label}`, titles, rows);
  table.classList.add("measurements");
  return table;
}

/** Return every list of samples in order of measurement, and a chart of the step times. */
function samplesOf(row) {
  const lines = row.trials.flatMap((trial) =>
    Object.entries(trial.measurements)
      .filter(([, value]) => Array.isArray(value))
      .map(([metric, value]) => [`${metric}, ${trial.role}`, value.join(", ")]),
  );
  if (!lines.length) return null;
  const strip = row.visits.step_seconds ? stripOf(row) : null;
  return folded("Raw samples", {}, strip, pairs(lines));
}

function stripOf(row) {
  const trial = row.trials.find(({ measurements }) => measurements.step_seconds);
  const times = trial.measurements.step_seconds;
  const generations = Object.values(row.visits.step_seconds);
  const visits = generations.reduce((sum, rounds) => sum + rounds.length, 0);
  const each = Math.ceil(times.length / visits);
  const owner = generations.flatMap((rounds, place) => Array(rounds.length * each).fill(place));
  const chart = newChart(520, 180, `Step times of ${row.label}, in the order measured`);
  const high = largest(times) * 1.05;
  const x = scaleOf(0, times.length, chart.left, chart.right);
  const y = scaleOf(0, high, chart.bottom, chart.top);
  const ticks = generations.map((rounds, place) => ({
    value: owner.indexOf(place) + (rounds.length * each) / 2,
    text: String(place + 1),
  }));
  axisBelow(chart, ticks, x, "process generation");
  axisLeft(chart, ticksOf(page.units.time, 0, high, 4), y, `step (${page.units.time.name})`);
  times.forEach((time, index) => {
    const place = owner[index];
    const where = `generation ${place + 1}, sample ${index - owner.indexOf(place) + 1}`;
    const text = `${where}\n${named(page.units.time, time)}`;
    const d = shapePath(place % 2 ? "square" : "circle", x(index + 0.5), y(time), 3.5);
    chart.svg.append(point("path", { class: "mark fill outlined", colour: row.colour, d }, text));
  });
  return openToKeys(chart);
}

function curveOf(row) {
  if (!row.curves.length) return null;
  return folded("Curve", {}, drawCurves([row], "steps", 520));
}

/** Return settings as a table; if the row's trials differ, each value names its trial. */
function settingsTable(row, heading, placesOf) {
  const found = new Map();
  for (const trial of row.trials) {
    for (const [name, value] of flattened(resolved(placesOf(trial)))) {
      found.set(name, [...(found.get(name) ?? []), [trial.role, value]]);
    }
  }
  return pairs([...found].map(([name, values]) => [name, sameOrEach(values, row.trials.length)]));
}

function sameOrEach(values, trials) {
  const [[, first]] = values;
  if (values.every(([, value]) => value === first)) return first;
  return values.map(([role, value]) => (trials > 1 ? `${value} (${role})` : value)).join("; ");
}

/** Return [dotted name, text] of every value in an object, without null values. */
function flattened(value, name = "") {
  if (value === null && name.split(".").length === 1) return [];
  if (value === null || typeof value !== "object") return [[name, String(value)]];
  if (Array.isArray(value)) return [[name, JSON.stringify(value)]];
  return Object.entries(value).flatMap(([key, inner]) =>
    flattened(inner, name ? `${name}.${key}` : key),
  );
}

function pairs(lines) {
  const children = lines.flatMap(([name, text]) => [
    element("dt", {}, name),
    element("dd", {}, text),
  ]);
  return element("dl", { class: "pairs" }, ...children);
}
