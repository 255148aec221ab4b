/** Print numbers as reports/units.py does: a unit has scale, digits, prefix and suffix. */

/** Return a number in a unit; a dash for null. */
function format(unit, value) {
  if (value === null || value === undefined) return page.nothing;
  const scaled = value / unit.scale;
  const below = scaled < 0 || Object.is(scaled, -0);
  const sign = below ? "-" : unit.signed ? "+" : "";
  return unit.before + sign + grouped(rounded(Math.abs(scaled), unit.digits)) + unit.behind;
}

/** Return a number followed by the name of its unit. */
function named(unit, value) {
  return unit.name && !unit.behind ? `${format(unit, value)} ${unit.name}` : format(unit, value);
}

/** Return a count with its noun: "1 row", "2 rows". */
function counted(count, word) {
  return `${grouped(String(count))} ${word}${count === 1 ? "" : "s"}`;
}

/**
 * Round as Python does. toFixed rounds the binary value correctly, but it rounds halves up; Python
 * rounds them to even. Halves are common in bytes divided by 2^20. A number is such a half only if
 * its product with 2^(digits + 1) is an odd integer. That product has no rounding error.
 */
function rounded(number, digits) {
  const doubled = number * 2 ** (digits + 1);
  if (!Number.isInteger(doubled) || doubled % 2 !== 1) return number.toFixed(digits);
  const power = 10 ** digits;
  const lower = Math.floor(number * power);
  return ((lower % 2 === 0 ? lower : lower + 1) / power).toFixed(digits);
}

/** Put commas between thousands. */
function grouped(text) {
  const [whole, ...rest] = text.split(".");
  return [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...rest].join(".");
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

function median(numbers) {
  const ordered = [...numbers].sort((a, b) => a - b);
  const half = Math.floor(ordered.length / 2);
  return ordered.length % 2 ? ordered[half] : mean(ordered.slice(half - 1, half + 1));
}
