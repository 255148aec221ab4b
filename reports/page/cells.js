/** The content of one cell of the table. */

const BEST = "best value of the rows shown; the differences to other rows may not be significant";

/**
 * Return the value of a row in a column as an object. All have a key for sorting, null if the
 * value is missing. Numbers have centre, low, high, count and noisy. Ratios have centre and, for
 * times, low, high and generations. Texts have text. A missing number has why, the reason.
 */
function reading(view, row, column) {
  if (column.kind === "text") {
    const [text, key] = row.texts[column.id];
    return { text, key };
  }
  if (column.kind === "ratio") {
    const ratio = ratioTo(view.base, row, column);
    return { ...ratio, key: ratio.centre };
  }
  const value = row.values[column.place];
  if (value === null) return { centre: null, key: null, why: reasonOf(row, column.metric) };
  const [centre, low, high, count, noisy] = value;
  return { key: centre, centre, low, high, count, noisy };
}

/** Return the cell of a row; `best` is the set of rows with the column's best value. */
function cell(view, row, column, best) {
  const found = reading(view, row, column);
  if (column.kind === "text") return wordCell(row, column, found);
  if (found.centre === null) return emptyCell(found.why);
  const marked = best.has(row);
  return element(
    "td",
    { class: marked ? "best" : null, title: marked ? BEST : null },
    format(column.unit, found.centre),
    marked ? spoken(" (best)") : null,
    spread(column, found),
    found.noisy ? element("span", { class: "flag" }, " noisy") : null,
  );
}

/** Return a number and its spread as text, with the unit. */
function inWords(column, found) {
  if (found.centre === null) return `${page.nothing} (${found.why})`;
  const range = spreadText(column, found);
  return named(column.unit, found.centre) + (range ? ` ${range}` : "");
}

function spread(column, found) {
  const text = spreadText(column, found);
  return text ? element("span", { class: "spread" }, ` ${text}`) : null;
}

function spreadText(column, { low, high }) {
  if (low === undefined || low === null || low === high) return "";
  const unit = column.plain ?? column.unit;
  return `[${format(unit, low)}, ${format(unit, high)}]`;
}

function emptyCell(why) {
  return element("td", { class: "none", title: why }, page.nothing, spoken(` ${why}`));
}

function wordCell(row, column, found) {
  const reasons = column.id === "status" ? row.reasons : [];
  const lines = reasons.map((reason) => element("div", { class: "reason" }, reason));
  return element("td", { class: "words" }, ...(lines.length ? lines : [found.text]));
}
