// The table: what every answer about this text took, beside FullKV's.

const number = (value, digits = 0) =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const tokens = value => number(value) + (value === 1 ? ' token' : ' tokens');
export const seconds = ms => number(ms / 1000, ms < 10000 ? 2 : 1) + ' s';
const bytes = value => value < 1024 * 1024 ? number(value / 1024) + ' KiB'
  : number(value / 1024 / 1024, value < 100 * 1024 * 1024 ? 1 : 0) + ' MiB';

/// A run's method as people call it, with what was asked for beside it.
export const runName = run => run.method + (run.rate ? `, share ${run.rate}` : '');

const percent = ratio => number(ratio * 100, ratio < 0.0995 ? 1 : 0) + ' %';
const times = ratio => number(ratio, ratio < 9.95 ? 1 : 0) + '×';

/// The columns: what of a run they show, how, and how it compares with FullKV's.
const columns = [
  { of: run => run.usage.kept_tokens.mean, text: value => number(value), compared: percent },
  { of: run => run.timings.first_token_ms, text: seconds, compared: percent },
  { of: run => run.timings.predicted_per_second, compared: times,
    text: value => value ? number(value, value < 10 ? 1 : 0) : '–' },  // an answer of one token has no rate
  { of: run => run.usage.kv_cache_bytes, text: bytes, compared: percent },
];

/// A figure, under it what it is of FullKV's, and a bar beside the largest of the column.
function cell(column, run, runs, full) {
  const td = document.createElement('td'), own = column.of(run);
  td.append(column.text(own));
  if (!full || !own) return td;
  const note = document.createElement('small'), bar = document.createElement('i');
  note.textContent = column.compared(own / column.of(full));
  bar.className = 'share';
  bar.style.setProperty('--share', own / Math.max(...runs.map(column.of)));
  td.append(note, bar);
  return td;
}

function row(run, runs, full, shown, onPick) {
  const tr = document.createElement('tr'), th = document.createElement('th'), button = document.createElement('button');
  th.scope = 'row';
  button.type = 'button';
  button.textContent = runName(run);
  button.title = 'Show this answer to “' + run.question + '”';
  if (shown) button.setAttribute('aria-current', 'true');
  button.addEventListener('click', () => onPick(run));
  th.append(button);
  tr.append(th, ...columns.map(column => cell(column, run, runs, full)));
  return tr;
}

function emptyRow() {
  const tr = document.createElement('tr'), td = document.createElement('td');
  td.colSpan = columns.length + 1;
  td.className = 'quiet';
  td.textContent = 'Every answer about this text gets a row here.';
  tr.append(td);
  return tr;
}

/// Draws all `runs`, of which one is shown beside the table.
export function showRuns(body, note, runs, shown, onPick) {
  const full = runs.findLast(run => run.method === 'fullkv');
  body.replaceChildren(...(runs.length ? runs.map(run => row(run, runs, full, run === shown, onPick)) : [emptyRow()]));
  note.hidden = !runs.length;
  const known = runs.some(run => run.timings.cache_n > 0);
  note.textContent = 'Tokens kept: by a layer per cached head, the mean of all layers. First token: since the question ' +
    'was sent. Cache: with the room set aside for the answer.' +
    (full ? ' Below each figure: of FullKV\u2019s.' : ' Compare with FullKV to see what each saves.') +
    (known ? ' Where an earlier question had been read already, the first token came sooner for it.' : '');
}
