/** Ratios of rows: of exact numbers, and of times in rounds in which both rows were timed. */

const NOT_TOGETHER = "not timed in the same round group as the baseline";

/** Return the centre (or null with the reason); for times also low, high and generations. */
function ratioTo(base, row, column) {
  return column.timed ? ratioOfTimes(base, row, column) : ratioOfNumbers(base, row, column);
}

function ratioOfNumbers(base, row, column) {
  const [own, theirs] = [centreOf(row, column), centreOf(base, column)];
  if (own === null) return absent(reasonOf(row, column.metric));
  if (theirs === null) return absent(`the baseline has no value: ${reasonOf(base, column.metric)}`);
  return theirs === 0 ? absent("no ratio: the baseline is 0") : { centre: own / theirs };
}

/** Return the same as time_ratio in harness/records/ratio_interval.py, at the page's confidence. */
function ratioOfTimes(base, row, column) {
  const metric = column.timedBy;
  if (!row.visits[metric]) return absent(reasonOf(row, metric));
  if (!base.visits[metric]) return absent(`the baseline has no value: ${reasonOf(base, metric)}`);
  const group = groupOfBoth(base, row);
  if (group === null) return absent(NOT_TOGETHER);
  const [ours, theirs] = [row, base].map((timed) => turnsOf(timed)[group][metric] ?? {});
  const shared = Object.keys(ours).filter((generation) => generation in theirs);
  if (!shared.length) return absent(NOT_TOGETHER);
  if (row === base) return { centre: 1, low: 1, high: 1, generations: shared.length };
  const planned = Math.max(...[row, base].map((timed) => timed.planned[group] ?? 0)) || Infinity;
  return interval(shared.map((number) => observation(ours[number], theirs[number])), planned);
}

/** Return what one generation says of the logarithm of the ratio, as ``_observation`` does. */
function observation(ours, theirs) {
  const rounds = Math.min(ours.length, theirs.length);
  const [own, other] = [ours, theirs].map((times) => times.slice(0, rounds));
  const perWindow = Math.ceil(page.windowSeconds / Math.max(median(own), median(other)));
  const windows = Math.max(1, Math.floor(rounds / perWindow + 0.5));
  const values = Array.from({ length: windows }, (_, place) => {
    const [start, end] = [place, place + 1].map((edge) => Math.floor((rounds * edge) / windows));
    return logOfQuickest(own.slice(start, end), other.slice(start, end));
  });
  return median(values);
}

/** Return the logarithm of the ratio of geometric means over the quickest third of a window. */
function logOfQuickest(ours, theirs) {
  const count = Math.ceil(ours.length / page.quickestShare);
  const [own, other] = [ours, theirs].map((times) => [...times].sort((a, b) => a - b));
  return mean(own.slice(0, count).map((time, place) => Math.log(time / other[place])));
}

/** Return a row's visits by round group: its own group, and those in which it was timed again. */
function turnsOf(row) {
  return row.group === null ? row.again : { ...row.again, [row.group]: row.visits };
}

/**
 * Return the round group in which two rows are compared: the group of both rows' own records, or
 * else the newest group that both rows have, or null. The newest group has the lowest index.
 */
function groupOfBoth(base, row) {
  if (row.group !== null && row.group === base.group) return row.group;
  const [ours, theirs] = [turnsOf(row), turnsOf(base)];
  const shared = Object.keys(ours).filter((group) => group in theirs);
  return shared.length ? least(shared.map(Number)) : null;
}

/** Return whether all timed rows were timed in turns, so that their times are comparable. */
function tookTurns(rows) {
  const timed = rows.filter((row) => row.visits.step_seconds);
  return timed.every((row) => row.group !== null && row.group === timed[0].group);
}

/**
 * Return the geometric mean and Student's t interval of ratios, given their logarithms. More
 * generations than were planned add no degrees of freedom.
 */
function interval(logs, planned) {
  const generations = logs.length;
  const centre = mean(logs);
  if (generations < page.fewestGenerations) return { centre: Math.exp(centre), generations };
  const squares = logs.map((log) => (log - centre) ** 2);
  const deviation = Math.sqrt((mean(squares) * generations) / (generations - 1));
  const freedom = Math.max(page.fewestGenerations, Math.min(generations, planned)) - 1;
  const reach = (page.quantiles[freedom] * deviation) / Math.sqrt(generations);
  const [low, high] = [Math.exp(centre - reach), Math.exp(centre + reach)];
  return { centre: Math.exp(centre), low, high, generations };
}

function absent(why) {
  return { centre: null, why };
}

/** Return the Pareto front of points ({x, y}), lowest x first. */
function paretoFront(points) {
  const front = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) {
    if (!front.length || point.y > front[front.length - 1].y) front.push(point);
  }
  return front;
}
