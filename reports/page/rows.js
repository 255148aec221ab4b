/** Filter, sort and rank the rows. */

const collator = new Intl.Collator("en", { numeric: true });
const LABEL = { id: "label", kind: "label", title: "row", better: "none" };

/** Return the text that the filter searches. */
function haystack(row) {
  const axes = ["precision", "micro_batch", "compiled_step", "optimizer_in_backward", "optimizer"];
  const texts = ["status", ...axes, "options"].map((id) => row.texts[id][0]);
  return [row.label, ...texts, ...row.reasons].join(" ").toLowerCase();
}

/** Return the rows that contain every word of the filter, in the order of the table. */
function shownRows(view) {
  const words = view.words.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = view.comparison.rows.filter((row) =>
    words.every((word) => row.haystack.includes(word)),
  );
  return view.sort ? sorted(view, rows) : rows;
}

function sorted(view, rows) {
  const { column, descending } = view.sort;
  const keyed = rows.map((row) => ({ row, key: sortKey(view, row, column) }));
  keyed.sort((a, b) => inOrder(a.key, b.key, descending));
  return keyed.map(({ row }) => row);
}

/** Compare two keys; rows without a key come last in both directions. */
function inOrder(a, b, descending) {
  if (a === null || b === null) return (a === null) - (b === null);
  const ascending = typeof a === "string" ? collator.compare(a, b) : a - b;
  return descending ? -ascending : ascending;
}

function sortKey(view, row, column) {
  if (column.kind === "label") return row.label;
  return reading(view, row, column).key;
}

/** Return the rows with the best value of a column; none if the values are not comparable. */
function bestOf(view, rows, column) {
  if (column.better === "none") return new Set();
  const read = rows.map((row) => [row, rankOf(view, rows, row, column)]);
  const found = read.filter(([, key]) => key !== null);
  if (column.bySeed && !haveSameSeeds(found.map(([row]) => row))) return new Set();
  const numbers = found.map(([, key]) => key);
  const [low, high] = [least(numbers), largest(numbers)];
  if (low === high) return new Set();
  const best = column.better === "lower" ? low : high;
  return new Set(found.filter(([, key]) => key === best).map(([row]) => row));
}

/**
 * Return the number by which a row is ranked in a column, or null. Times of rows that were not
 * timed in turns cannot be ranked: ratios to the reference replace them.
 */
function rankOf(view, rows, row, column) {
  const { key } = reading(view, row, column);
  if (!column.timed || column.kind === "ratio" || tookTurns(rows)) return key;
  const { reference, rows: every } = view.comparison;
  if (reference === null || key === null || column.timedBy === null) return null;
  const { centre } = ratioTo(every[reference], row, column);
  return centre === null || column.better === "lower" ? centre : 1 / centre;
}

/** Tell whether rows were tested with the same seeds; otherwise means are not comparable. */
function haveSameSeeds(rows) {
  return new Set(rows.map((row) => row.texts.seeds[0])).size < 2;
}

// Math.min(...numbers) may fail, because thousands of arguments may be too many.
function least(numbers) {
  return numbers.reduce((a, b) => Math.min(a, b), Infinity);
}

function largest(numbers) {
  return numbers.reduce((a, b) => Math.max(a, b), -Infinity);
}
