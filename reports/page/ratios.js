/** Ratios between rows: exact numbers as they are, times only from rounds both were visited in. */

const NOT_TOGETHER = "not timed in one round group with the baseline";

/** Return centre (null where there is none, then why), and low, high and rounds of a time's. */
function ratioTo(base, row, column) {
  return column.timed ? ratioOfTimes(base, row, column) : ratioOfNumbers(base, row, column);
}

function ratioOfNumbers(base, row, column) {
  const [own, theirs] = [centreOf(row, column), centreOf(base, column)];
  if (own === null) return absent(reasonOf(row, column.metric));
  if (theirs === null) return absent(`the baseline has none: ${reasonOf(base, column.metric)}`);
  return theirs === 0 ? absent("the baseline's is 0") : { centre: own / theirs };
}

/** The same as reports/statistics.time_ratio, at the confidence that the page names. */
function ratioOfTimes(base, row, column) {
  const metric = column.timedBy;
  if (!row.visits[metric]) return absent(reasonOf(row, metric));
  if (!base.visits[metric]) return absent(`the baseline has none: ${reasonOf(base, metric)}`);
  const group = groupOfBoth(base, row);
  if (group === null) return absent(NOT_TOGETHER);
  const [ours, theirs] = [row, base].map((timed) => turnsOf(timed)[group][metric] ?? []);
  if (!ours.length || !theirs.length) return absent(NOT_TOGETHER);
  if (row === base) return { centre: 1, low: 1, high: 1, rounds: ours.length };
  const rounds = Math.min(ours.length, theirs.length);
  return interval(ours.slice(0, rounds).map((time, round) => Math.log(time / theirs[round])));
}

/** Return a row's visits by round group: its own, and those it was timed in again. */
function turnsOf(row) {
  return row.group === null ? row.again : { ...row.again, [row.group]: row.visits };
}

/**
 * Return the round group in which two rows are compared: the one that both were stored with, else
 * the newest in which both stand (the first, for so they are numbered); null where there is none.
 */
function groupOfBoth(base, row) {
  if (row.group !== null && row.group === base.group) return row.group;
  const [ours, theirs] = [turnsOf(row), turnsOf(base)];
  const shared = Object.keys(ours).filter((group) => group in theirs);
  return shared.length ? least(shared.map(Number)) : null;
}

/** Return whether all rows that have a time took turns with each other, so that seconds compare. */
function tookTurns(rows) {
  const timed = rows.filter((row) => row.visits.step_seconds);
  return timed.every((row) => row.group !== null && row.group === timed[0].group);
}

/** Return the geometric mean and Student's t interval of ratios whose logarithms are given. */
function interval(logs) {
  const rounds = logs.length;
  const centre = mean(logs);
  if (rounds < page.fewestRounds) return { centre: Math.exp(centre), rounds };
  const squares = logs.map((log) => (log - centre) ** 2);
  const deviation = Math.sqrt((mean(squares) * rounds) / (rounds - 1));
  const reach = (page.quantiles[rounds - 1] * deviation) / Math.sqrt(rounds);
  const [low, high] = [Math.exp(centre - reach), Math.exp(centre + reach)];
  return { centre: Math.exp(centre), low, high, rounds };
}

function absent(why) {
  return { centre: null, why };
}

/** Return the points ({x, y}) that no other beats in both, the lowest x first. */
function paretoFront(points) {
  const front = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) {
    if (!front.length || point.y > front[front.length - 1].y) front.push(point);
  }
  return front;
}
