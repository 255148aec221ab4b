/** The figures of a comparison: cards that adapt to their width and show the rows of the table. */

const CURVES = 40; // most lines in a chart
const CHOICES = 60;
const TALL = 12; // with more bars, the figure is as high as two others
const HOW_TO_READ =
  "Only rows that pass the filter are drawn. To see values, point at a mark, or press Tab to enter " +
  "a chart and use the arrow keys.";
const NOTHING_TO_DRAW = "No row shown has the data for this figure.";
const PAUSE = 150; // ms after the last change until figures are drawn again

/** Return the cards in a `details` element; null if the records have no data for a figure. */
function figuresOf(view, open) {
  const cards = [scatterCard(view), barsCard(view), ...curveCards(view)];
  const found = [...cards, timelineCard(view), blocksCard(view)].filter((card) => card !== null);
  if (!found.length) return null;
  const heading = element("h3", {}, "Figures");
  const cardsBox = element("div", { class: "cards" }, ...found);
  const parts = [noteOf(HOW_TO_READ), chooserOf(view), cardsBox];
  return folded(heading, { class: "figures", open }, ...parts);
}

/** Redraw a comparison's figures after the last of several changes. */
function redrawSoon(view) {
  clearTimeout(view.timer);
  view.timer = setTimeout(() => redrawAll(view), PAUSE);
}

function redrawAll(view) {
  for (const redraw of view.redraws) redraw();
}

/** Return a card; `draw` takes a width in pixels and returns nodes, or null without data. */
function cardOf(view, heading, note, draw, ...controls) {
  const holder = element("div", { class: "holder" });
  let width = 0;
  const redraw = () => {
    width = holder.clientWidth;
    if (!width) return; // not visible; it is drawn when its fold opens
    holder.replaceChildren(...(draw(width) ?? [noteOf(NOTHING_TO_DRAW)]));
    for (const text of holder.querySelectorAll("[data-fit]")) fitText(text, text.dataset.fit);
  };
  // Wait for the next frame, because drawing inside the observer may call the observer again.
  const watch = () => requestAnimationFrame(() => holder.clientWidth !== width && redraw());
  new ResizeObserver(watch).observe(holder);
  view.redraws.push(redraw);
  const caption = element("figcaption", {}, element("h4", {}, heading), element("p", {}, note));
  return element("figure", { class: "card" }, caption, ...controls, holder);
}

function scatterCard(view) {
  const costs = costsOf(view.comparison);
  if (!costs.length) return null;
  let cost = costs[0];
  const options = costs.map((column, place) => element("option", { value: place }, column.title));
  const choose = (event) => {
    cost = costs[Number(event.target.value)];
    redrawAll(view);
  };
  const select = choiceOf("Cost ", choose, options);
  const draw = (width) => {
    const shown = new Set(shownRows(view));
    const rows = trainedRows(view.comparison).filter((row) => shown.has(row));
    const chart = drawScatter(view, rows, cost, width);
    return chart && [chart, rowLegend(rows.slice(0, CURVES), "marker")];
  };
  const note =
    "Bars: range over seeds; for times quartiles, for ratios of times intervals. Dashed line: " +
    "Pareto front, if all rows shown have the same seeds.";
  return cardOf(view, "Accuracy against cost", note, draw, select);
}

function barsCard(view) {
  if (!categoriesOf(view.comparison).length) return null;
  const draw = (width) => {
    const rows = shownRows(view);
    const chart = drawBars(view, rows, width);
    const rest = rows.length > BARS ? [tooMany(BARS)] : [];
    return chart && [categoryLegend(view.comparison), chart, ...rest];
  };
  const note = "Counted bytes of live tensors at the peak; rows as in the table.";
  const card = cardOf(view, "Composition of the peak", note, draw);
  card.classList.toggle("tall", view.comparison.rows.length > TALL);
  return card;
}

function curveCards(view) {
  const rows = view.comparison.rows.filter((row) => row.curves.length);
  if (!rows.length) return [];
  return ["steps", "seconds"].map((against) => {
    const draw = (width) => {
      const shown = shownRows(view).filter((row) => row.curves.length);
      const chart = drawCurves(shown.slice(0, CURVES), against, width);
      const rest = shown.length > CURVES ? [tooMany(CURVES)] : [];
      return chart && [chart, rowLegend(shown.slice(0, CURVES), "line"), ...rest];
    };
    const note = "Mean over seeds; each mark gives the range.";
    return cardOf(view, `Validation accuracy against ${against}`, note, draw);
  });
}

function tooMany(count) {
  return noteOf(`The first ${count} rows; filter the table for others.`);
}

function noteOf(text) {
  return element("p", { class: "note" }, text);
}

function choiceOf(name, choose, options) {
  const select = element("select", { onchange: choose }, ...options);
  return element("label", { class: "choice" }, name, select);
}

function timelineCard(view) {
  if (!view.comparison.rows.some((row) => row.timeline)) return null;
  const draw = (width) => {
    const rows = chosenRows(view);
    const chart = drawTimeline(view, rows, width);
    const without = rows.filter((row) => !row.timeline && row.sidecar).map((row) => row.label);
    const text = `Only in the sidecar, not in this page: ${without.join(", ")}.`;
    const rest = without.length ? [noteOf(text)] : [];
    const shown = rows.filter((row) => row.timeline);
    return chart && [chart, rowLegend(shown, "line"), ...rest];
  };
  const note = "Square: a phase begins. Diamond: the peak.";
  return cardOf(view, "Memory through one step", note, draw);
}

function blocksCard(view) {
  if (!view.comparison.rows.some((row) => row.blocks)) return null;
  const categories = placedCategories(view.comparison);
  let category = categories[0];
  const options = categories.map(({ title }, place) => element("option", { value: place }, title));
  const choose = (event) => {
    category = categories[Number(event.target.value)];
    redrawAll(view);
  };
  const select = choiceOf("Category ", choose, options);
  const draw = (width) => {
    const rows = chosenRows(view).filter((row) => row.blocks);
    const chart = drawBlocks(rows, category, width);
    const text = (row) => `${row.label}: peak in ${row.peakPlace || "an unrecorded place"}`;
    return chart && [chart, rowLegend(rows, "box", text)];
  };
  const note = "Bytes alive at the peak of each row, by the block that created them.";
  return cardOf(view, "Memory at the peak, block by block", note, draw, select);
}

/** Return the rows whose steps are drawn: the ticked rows, or baseline and reference. */
function chosenRows(view) {
  const { rows, reference } = view.comparison;
  const usual = new Set([view.base, reference === null ? view.base : rows[reference]]);
  const some = rows.filter((row) => (view.chosen ?? usual).has(row));
  if (view.chosen || some.some(looksInside)) return some;
  return rows.filter(looksInside).slice(0, 1);
}

function looksInside(row) {
  return Boolean(row.timeline || row.blocks);
}

/** Return a fold of tick boxes, one per row, for the two figures of a single step. */
function chooserOf(view) {
  if (!view.comparison.rows.some(looksInside)) return null;
  const list = element("div", { class: "ticks" });
  const fold = folded("Rows in the figures of one step", { class: "chooser" }, list);
  const refill = () => {
    const chosen = new Set(chosenRows(view));
    const rows = shownRows(view).filter(looksInside);
    const ticks = rows.slice(0, CHOICES).map((row) => tickOf(view, row, chosen.has(row)));
    list.replaceChildren(...ticks, ...(rows.length > CHOICES ? [tooMany(CHOICES)] : []));
  };
  refill();
  view.redraws.push(refill);
  return fold;
}

function tickOf(view, row, checked) {
  const change = (event) => {
    view.chosen = new Set(chosenRows(view));
    if (event.target.checked) view.chosen.add(row);
    else view.chosen.delete(row);
    redrawKeepingFocus(view, row);
  };
  const box = { type: "checkbox", checked, onchange: change, "data-row": row.label };
  const input = element("input", box);
  return element("label", {}, input, ` ${row.label}`);
}

/** Redraw the figures and the tick boxes; the tick box that was used keeps the focus. */
function redrawKeepingFocus(view, row) {
  const boxes = () => [...view.section.querySelectorAll("[data-row]")];
  const focused = boxes().includes(document.activeElement);
  redrawAll(view);
  if (focused) boxes().find((box) => box.dataset.row === row.label)?.focus();
}
