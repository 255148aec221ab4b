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
  const [ours, theirs] = [row.visits[column.metric], base.visits[column.metric]];
  if (!ours) return absent(reasonOf(row, column.metric));
  if (!theirs) return absent(`the baseline has none: ${reasonOf(base, column.metric)}`);
  if (row.group === null || row.group !== base.group) return absent(NOT_TOGETHER);
  if (row === base) return { centre: 1, low: 1, high: 1, rounds: ours.length };
  const rounds = Math.min(ours.length, theirs.length);
  return interval(ours.slice(0, rounds).map((time, round) => Math.log(time / theirs[round])));
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
