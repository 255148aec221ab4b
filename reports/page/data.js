/** The data of the page, as written by Python. */

const page = JSON.parse(document.getElementById("data").textContent);

for (const comparison of page.comparisons) {
  const offered = comparison.columns.map(([id, shown]) => ({ ...page.columns[id], shown }));
  comparison.columns = offered;
}

/** Return values by name, given their indices in the shared values. */
function resolved(places) {
  const pairs = Object.entries(places).map(([name, place]) => [name, page.shared[place]]);
  return Object.fromEntries(pairs);
}

/** Return a row's value of a metric's column: its centre, or null. */
function centreOf(row, column) {
  const value = row.values[column.place];
  return value === null ? null : value[0];
}

/** Return the column with an id, or undefined if the comparison does not have it. */
function columnOf(comparison, id) {
  return comparison.columns.find((column) => column.id === id);
}

/** Return why a row has no value of a metric. */
function reasonOf(row, metric) {
  const place = (row.missing ?? {})[metric];
  if (place !== undefined) return page.shared[place];
  return row.reasons.length ? row.reasons.join("; ") : "not measured";
}
