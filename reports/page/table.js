/** The table of a comparison: buttons in the headings sort it, and rows can be opened. */

const FIRST_ROWS = 300; // rows drawn at first; a button draws more

/** Return the table, with its status line above and the buttons for more rows below. */
function tableOf(view) {
  const { title } = view.comparison;
  view.head = element("thead");
  view.body = element("tbody");
  view.status = element("p", { class: "status", role: "status" });
  view.more = element("p", { class: "more" });
  const caption = element("caption", { class: "spoken" }, title);
  const table = element("table", { class: "rows" }, caption, view.head, view.body);
  const region = { class: "scroll", tabindex: 0, role: "region", "aria-label": `Rows of ${title}` };
  return element("div", {}, view.status, element("div", region, table), view.more);
}

/** Redraw heading and rows after a change of columns or of the baseline. */
function refreshTable(view) {
  const cells = [LABEL, ...visibleColumns(view)].map((column) => headingOf(view, column));
  view.head.replaceChildren(element("tr", {}, ...cells));
  refreshRows(view);
}

/** Redraw the rows and mark the sorted column; the headings keep the focus. */
function refreshRows(view) {
  const rows = shownRows(view);
  const columns = visibleColumns(view);
  const bests = columns.map((column) => bestOf(view, rows, column));
  const drawnRows = rows.slice(0, view.limit);
  view.body.replaceChildren(...drawnRows.flatMap((row) => linesOf(view, row, columns, bests)));
  markSorted(view);
  sayStatus(view, rows.length, drawnRows.length);
  offerMore(view, rows.length, drawnRows.length);
}

function visibleColumns(view) {
  return view.comparison.columns.filter((column) => view.shown.has(column.id));
}

function headingOf(view, column) {
  const ratio = column.kind === "ratio";
  const over = ratio ? element("span", { class: "over" }, overText(view, column)) : null;
  const button = element(
    "button",
    {
      type: "button",
      "data-tip": tipText(view, column),
      "aria-describedby": column.definition ? definitionId(column) : null,
      onclick: () => sortBy(view, column),
    },
    element("span", {}, column.title),
    over,
    element("span", { class: "arrow", "aria-hidden": "true" }),
  );
  const kind = column.kind === "text" ? "words" : null;
  return element("th", { scope: "col", class: kind, "data-column": column.id }, button);
}

function overText(view, column) {
  const name = view.base.label.length > 24 ? "baseline" : view.base.label;
  return `× ${name}${column.timed ? ` [${page.confidence * 100} %]` : ""}`;
}

function tipText(view, column) {
  if (column.kind === "label") return "Sort by name. The button in a row opens its details.";
  if (column.kind !== "ratio") return column.definition;
  const how = column.timed
    ? "the geometric mean over process generations of the median ratio of their rounds (of steps " +
      "shorter than a second: of the ratio of their quickest visits), with " +
      `Student's t interval at ${page.confidence * 100} % if there are at least ` +
      `${page.fewestGenerations} generations`
    : "the value divided by the baseline's value";
  return `Relative to ${view.base.label}: ${how}.\n${column.definition}`;
}

function definitionId(column) {
  return `definition-${column.metric ?? column.id}`;
}

/** Sort by a column; a second click reverses the order, a third restores the recorded order. */
function sortBy(view, column) {
  const again = view.sort && view.sort.column.id === column.id;
  if (again && view.sort.descending) view.sort = null;
  else view.sort = { column, descending: Boolean(again) };
  refreshRows(view);
  redrawSoon(view);
}

function markSorted(view) {
  const arrows = { ascending: "▲", descending: "▼", none: "" };
  for (const heading of view.head.querySelectorAll("th")) {
    const here = view.sort && heading.dataset.column === view.sort.column.id;
    const order = here ? orderOf(view.sort) : "none";
    heading.setAttribute("aria-sort", order);
    heading.querySelector(".arrow").textContent = arrows[order];
  }
}

function orderOf({ descending }) {
  return descending ? "descending" : "ascending";
}

function linesOf(view, row, columns, bests) {
  const cells = columns.map((column, index) => cell(view, row, column, bests[index]));
  const kinds = ["row", row === view.base && "baseline", row.reasons.length && "failed"];
  const kind = kinds.filter(Boolean).join(" ");
  const first = element("tr", { class: kind }, nameCell(view, row), ...cells);
  return view.opened.has(row) ? [first, openedLine(view, row)] : [first];
}

function nameCell(view, row) {
  const open = view.opened.has(row);
  const button = element(
    "button",
    {
      type: "button",
      "aria-expanded": String(open),
      "aria-controls": open ? openedId(view, row) : null,
      onclick: (event) => toggle(view, row, event.currentTarget),
    },
    element("span", { class: "turn", "aria-hidden": "true" }),
    element("span", { class: "dot mark", colour: row.colour, "aria-hidden": "true" }),
    element("span", { class: "label" }, row.label),
  );
  return element("th", { scope: "row" }, button, ...tagsOf(view, row));
}

function tagsOf(view, row) {
  const tags = row === view.base ? [element("span", { class: "tag" }, "baseline")] : [];
  if (row.reasons.length) tags.push(element("span", { class: "tag bad" }, row.texts.status[0]));
  return tags.flatMap((tag) => [" ", tag]);
}

function toggle(view, row, button) {
  const open = !view.opened.has(row);
  button.setAttribute("aria-expanded", String(open));
  if (open) {
    view.opened.add(row);
    button.closest("tr").after(openedLine(view, row));
    button.setAttribute("aria-controls", openedId(view, row));
  } else {
    view.opened.delete(row);
    button.closest("tr").nextElementSibling.remove();
    button.removeAttribute("aria-controls");
  }
}

function openedLine(view, row) {
  const inside = element("td", { colspan: visibleColumns(view).length + 1 }, detailOf(view, row));
  return element("tr", { class: "detail", id: openedId(view, row) }, inside);
}

function openedId(view, row) {
  return `${view.id}-row-${view.comparison.rows.indexOf(row)}`;
}

function sayStatus(view, shown, drawnCount) {
  const total = view.comparison.rows.length;
  const parts = [`${counted(shown, "row")} of ${grouped(String(total))}`];
  if (drawnCount < shown) parts.push(`the first ${drawnCount} are drawn`);
  if (view.sort) parts.push(`sorted by ${view.sort.column.title}, ${orderOf(view.sort)}`);
  view.status.textContent = `${parts.join("; ")}.`;
}

function offerMore(view, shown, drawnCount) {
  view.more.replaceChildren();
  if (drawnCount >= shown) return;
  const draw = (limit) => () => {
    view.limit = limit;
    refreshRows(view);
  };
  const button = (limit, text) => element("button", { type: "button", onclick: draw(limit) }, text);
  const step = Math.min(FIRST_ROWS, shown - drawnCount);
  view.more.append(
    button(view.limit + FIRST_ROWS, `Draw ${step} more`),
    " ",
    button(Infinity, `Draw all ${grouped(String(shown))}`),
  );
}
