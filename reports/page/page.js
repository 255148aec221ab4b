/** Build the page and start it. */

const FEW = 3; // comparisons; with more, figures are folded at first
const THEMES = ["as the system", "light", "dark"];
const views = page.comparisons.map(viewOf);

/** Return the state of a comparison's controls, and the nodes that depend on it. */
function viewOf(comparison, index) {
  const variants = new Map();
  for (const row of comparison.rows) {
    const [colour] = row.colour;
    row.variant = variants.get(colour) ?? 0;
    variants.set(colour, row.variant + 1);
    row.haystack = haystack(row);
  }
  return {
    comparison,
    id: `comparison-${index + 1}`,
    base: comparison.rows[comparison.baseline],
    shown: new Set(comparison.columns.filter(({ shown }) => shown).map(({ id }) => id)),
    sort: null,
    words: "",
    limit: FIRST_ROWS,
    opened: new Set(),
    chosen: null,
    redraws: [],
    timer: 0,
  };
}

function headerOf() {
  const total = page.comparisons.reduce((sum, { rows }) => sum + rows.length, 0);
  const counts = `${counted(page.comparisons.length, "comparison")}, ${counted(total, "row")}. `;
  const files = [link("report.md", "report.md"), ", ", link("comparison.csv", "comparison.csv")];
  return element(
    "header",
    {},
    themeButton(),
    element("h1", {}, page.title),
    element("p", { class: "note" }, counts, "The same numbers: ", ...files, "."),
    page.leftOut ? noteOf(page.leftOut) : null,
  );
}

function themeButton() {
  let theme = 0;
  const name = () => `Colours: ${THEMES[theme]}`;
  const change = (event) => {
    theme = (theme + 1) % THEMES.length;
    if (theme) document.documentElement.dataset.theme = THEMES[theme];
    else delete document.documentElement.dataset.theme;
    event.currentTarget.textContent = name();
  };
  return element("button", { type: "button", class: "theme", onclick: change }, name());
}

function contentsOf() {
  if (views.length < 2) return null;
  const items = views.map(({ id, comparison }) => {
    const failed = comparison.rows.filter((row) => row.reasons.length).length;
    const failures = failed ? `, ${failed} did not complete` : "";
    const text = ` ${counted(comparison.rows.length, "row")}${failures}`;
    const rows = element("span", { class: "note" }, text);
    return element("li", {}, link(`#${id}`, comparison.title), rows);
  });
  const heading = element("h2", {}, "Contents");
  return element("nav", { "aria-label": "Contents" }, heading, element("ol", {}, ...items));
}

function sectionOf(view) {
  const { comparison } = view;
  const heading = element("h2", { id: view.id }, comparison.title);
  const summary = comparison.summary.map((text) => element("p", {}, text));
  view.section = element("section", { "aria-labelledby": view.id }, heading, ...summary);
  if (comparison.rows.length) view.section.append(...filledSection(view));
  return view.section;
}

function filledSection(view) {
  const { comparison } = view;
  const parts = [
    controlsOf(view),
    tableOf(view),
    foldedLines("Did not complete", comparison.failures, { open: true }),
    figuresOf(view, views.length <= FEW),
    ...comparison.tables.flatMap(({ title, titles, rows }) => [
      element("h3", {}, title),
      plainTable(title, titles, rows),
    ]),
    foldedLines("Notes about the numbers", comparison.doubts),
    foldedLines("Not measured", comparison.absences),
    foldedLines("Settings in which rows differ", comparison.differences),
  ];
  return parts.filter((part) => part !== null);
}

/** Return the definition of every column that a comparison has. */
function definitionsOf() {
  const columns = new Map();
  for (const column of page.comparisons.flatMap((comparison) => comparison.columns)) {
    if (column.kind !== "ratio") columns.set(column.id, column);
  }
  const items = [...columns.values()].map((column) =>
    element(
      "div",
      {},
      element("dt", {}, column.title, element("code", {}, ` ${column.metric ?? ""}`)),
      element("dd", { id: definitionId(column) }, column.definition, betterText(column)),
    ),
  );
  const list = element("dl", { class: "definitions" }, ...items);
  return element("section", {}, element("h2", {}, "Definitions"), list);
}

function betterText(column) {
  if (column.better === "none") return null;
  return column.better === "lower" ? " Lower is better." : " Higher is better.";
}

function provenanceOf() {
  const lines = page.provenance.map((text) => element("li", {}, text));
  const heading = element("h2", {}, "Machines and versions");
  return element("section", {}, heading, element("ul", {}, ...lines));
}

/** Open all folds for printing, so that every figure is printed. */
function watchPrinting() {
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.figures:not([open])")];
    for (const fold of opened) fold.open = true;
    views.forEach(redrawAll);
  });
  window.addEventListener("afterprint", () => {
    for (const fold of opened) fold.open = false;
  });
}

function start() {
  const nothing = views.length ? null : noteOf("There are no records to compare.");
  const sections = [...views.map(sectionOf), definitionsOf(), provenanceOf()];
  const parts = [headerOf(), contentsOf(), nothing, ...sections];
  document.getElementById("page").append(...parts.filter((part) => part !== null));
  for (const view of views) if (view.comparison.rows.length) refreshTable(view);
  watchTips();
  watchPrinting();
}

start();
