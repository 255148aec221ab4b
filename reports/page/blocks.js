/** The figure of bytes per block at the counted peak. */

const SAVED = "saved_activations";

/** Return the categories in which a row has bytes per block; saved activations first. */
function placedCategories(comparison) {
  const held = new Set(comparison.rows.flatMap((row) => Object.keys(row.blocks ?? {})));
  const found = page.categories.filter(({ name }) => held.has(name));
  return found.sort((a, b) => (b.name === SAVED) - (a.name === SAVED));
}

/** Return the chart: groups of bars, one per row; null if no row has memory per block. */
function drawBlocks(rows, category, width) {
  const shown = rows.filter((row) => row.blocks);
  if (!shown.length) return null;
  const bars = shown.map((row) => ({ row, sizes: row.blocks[category.name] ?? emptyLike(row) }));
  const rowNames = shown.map((row) => row.label).join(", ");
  const label = `${category.title} at the peak, block by block, of ${rowNames}`;
  const chart = newChart(width, 300, label);
  const places = largest(bars.map(({ sizes }) => sizes.length));
  const top = largest(bars.map(({ sizes }) => largest(sizes))) || page.units.memory.scale;
  const x = scaleOf(0, places, chart.left, chart.right);
  const y = scaleOf(0, top * 1.05, chart.bottom, chart.top);
  const names = placeNames(places, (chart.right - chart.left) / places);
  const ticks = names.map((text, place) => ({ value: place + 0.5, text }));
  const { memory } = page.units;
  axisBelow(chart, ticks, x, "block (else: outside blocks)");
  axisLeft(chart, ticksOf(memory, 0, top * 1.05, 5), y, `${category.title} (${memory.name})`);
  for (let place = 0; place < places; place += 1) drawPlace(chart, bars, place, places, x, y);
  return openToKeys(chart);
}

function emptyLike(row) {
  const [sizes] = Object.values(row.blocks);
  return sizes.map(() => 0);
}

/** Return the label of each group. If groups are narrow, only every second or fourth has one. */
function placeNames(places, room) {
  const every = room > 22 ? 1 : room > 11 ? 2 : 4;
  return Array.from({ length: places }, (_, place) => {
    if (place === places - 1) return "else";
    return place % every === 0 ? String(place) : "";
  });
}

function drawPlace(chart, bars, place, places, x, y) {
  const wide = ((x(1) - x(0)) * 0.8) / bars.length;
  bars.forEach(({ row, sizes }, index) => {
    // Rows may have different numbers of blocks. Each row's last number is memory outside blocks.
    const last = place === places - 1;
    const size = last ? sizes[sizes.length - 1] : place < sizes.length - 1 ? sizes[place] : 0;
    const height = Math.max(1, chart.bottom - y(size));
    const where = last ? "outside blocks" : `block ${place}`;
    const text = `${row.label}\n${where}: ${named(page.units.memory, size)}`;
    const left = x(place) + (x(1) - x(0)) * 0.1 + wide * index;
    const shape = { x: left, y: chart.bottom - height, width: wide, height };
    const kind = `mark fill part v${row.variant % 4}`;
    chart.svg.append(point("rect", { ...shape, class: kind, colour: row.colour }, text));
  });
}
