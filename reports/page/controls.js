/** The controls above a table: a filter, the choice of the baseline, a check box per column. */

const PRESETS = [
  ["Summary", (column) => column.shown],
  ["Memory", (column) => column.group.startsWith("Memory") && column.kind === "number"],
  ["Time and work", (column) => ["Work", "Time and energy"].includes(column.group)],
  ["All", () => true],
];

/** Return the controls of a table. */
function controlsOf(view) {
  return element("div", { class: "controls" }, filterOf(view), baselineOf(view), switchesOf(view));
}

function filterOf(view) {
  const input = element("input", {
    type: "search",
    placeholder: "words in name, options, status",
    oninput: (event) => {
      view.words = event.target.value;
      view.limit = FIRST_ROWS;
      refreshRows(view);
      redrawSoon(view);
    },
  });
  return element("label", { class: "filter" }, element("span", {}, "Filter"), input);
}

function baselineOf(view) {
  const { rows } = view.comparison;
  const options = rows.map((row, place) =>
    element("option", { value: place, selected: row === view.base }, row.label),
  );
  const select = element("select", { onchange: (event) => changeBase(view, event) }, ...options);
  return element("label", { class: "base" }, element("span", {}, "Baseline"), select);
}

function changeBase(view, event) {
  view.base = view.comparison.rows[Number(event.target.value)];
  refreshTable(view);
  redrawSoon(view);
}

function switchesOf(view) {
  const boxes = new Map();
  const groups = new Map();
  for (const column of view.comparison.columns) {
    const box = switchOf(view, column);
    boxes.set(column, box.querySelector("input"));
    groups.set(column.group, [...(groups.get(column.group) ?? []), box]);
  }
  const fields = [...groups].map(([name, found]) =>
    element("fieldset", {}, element("legend", {}, name), ...found),
  );
  const buttons = PRESETS.map(([name, isShown]) => preset(view, boxes, name, isShown));
  const presets = element("p", { class: "presets" }, "Show: ", ...buttons);
  const inside = element("div", { class: "fields" }, ...fields);
  return folded("Columns", { class: "columns" }, presets, inside);
}

function switchOf(view, column) {
  const input = element("input", {
    type: "checkbox",
    checked: view.shown.has(column.id),
    onchange: (event) => {
      if (event.target.checked) view.shown.add(column.id);
      else view.shown.delete(column.id);
      refreshTable(view);
    },
  });
  const text = column.kind === "ratio" ? `${column.title} × baseline` : column.title;
  return element("label", { "data-tip": column.definition }, input, ` ${text}`);
}

function preset(view, boxes, name, isShown) {
  const choose = () => {
    // Failures stay visible, and so do axes in which rows differ.
    const kept = (column) => isShown(column) || (column.kind === "text" && column.shown);
    view.shown = new Set([...boxes.keys()].filter(kept).map((column) => column.id));
    for (const [column, box] of boxes) box.checked = view.shown.has(column.id);
    refreshTable(view);
  };
  return element("button", { type: "button", onclick: choose }, name);
}
