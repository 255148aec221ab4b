/** The figure of the composition of the counted peak: one bar per row, one part per category. */

const BARS = 40; // most rows in the figure; the filter selects other rows
const BAR_ROW = 36;

/** Return the categories in which a row has bytes, each with its column. */
function categoriesOf(comparison) {
  const found = page.categories.map((category) => ({
    ...category,
    column: columnOf(comparison, `${category.name}_at_peak_bytes`),
  }));
  return found.filter(
    ({ column }) => column && comparison.rows.some((row) => centreOf(row, column) > 0),
  );
}

/** Return the chart; null if no row has a peak by category. */
function drawBars(view, rows, width) {
  const categories = categoriesOf(view.comparison);
  const bars = rows.map((row) => barOf(row, categories)).filter(({ total }) => total > 0);
  if (!bars.length) return null;
  const shown = bars.slice(0, BARS);
  const height = 56 + BAR_ROW * shown.length;
  const label = `Counted memory at the peak by category, ${counted(shown.length, "row")}`;
  const chart = newChart(width, height, label, { left: 8, right: 72, top: 4, bottom: 44 });
  const highest = largest(shown.map(({ total }) => total));
  const x = scaleOf(0, highest, chart.left, chart.right);
  const ticks = ticksOf(page.units.memory, 0, highest, Math.max(2, Math.min(6, width / 110)));
  const title = `counted bytes alive at the peak (${page.units.memory.name})`;
  axisBelow(chart, ticks, x, title);
  shown.forEach((bar, index) => drawBar(chart, bar, index, x, view.base));
  return openToKeys(chart);
}

function barOf(row, categories) {
  const parts = categories.map((category) => ({
    category,
    bytes: centreOf(row, category.column) ?? 0,
  }));
  return { row, parts, total: parts.reduce((sum, { bytes }) => sum + bytes, 0) };
}

function drawBar(chart, { row, parts, total }, index, x, base) {
  const top = chart.top + BAR_ROW * index;
  const name = row === base ? `${row.label} (baseline)` : row.label;
  const kind = row === base ? "name strong" : "name";
  const place = { x: chart.left, y: top + 13, "data-fit": chart.right - chart.left };
  chart.svg.append(hidden(drawn("text", { ...place, class: kind }, name)));
  let before = 0;
  for (const { category, bytes } of parts.filter((part) => part.bytes > 0)) {
    const size = { x: x(before), y: top + 18, width: x(before + bytes) - x(before), height: 13 };
    const share = `${format(page.units.share, bytes / total)} of the peak`;
    const text = `${row.label}\n${category.title}: ${named(page.units.memory, bytes)}, ${share}`;
    const kind = { class: "mark fill part", colour: category.colour };
    chart.svg.append(point("rect", { ...size, ...kind }, text));
    before += bytes;
  }
  const sum = { class: "name", x: x(total) + 5, y: top + 29 };
  chart.svg.append(hidden(drawn("text", sum, format(page.units.memory, total))));
}

/** Return the legend of the categories. */
function categoryLegend(comparison) {
  const swatch = () => drawn("path", { class: "fill", d: "M3 0h14v12h-14z" });
  const item = ({ title, colour }) => ({ text: title, colour, swatch: swatch() });
  return legend(categoriesOf(comparison).map(item));
}
