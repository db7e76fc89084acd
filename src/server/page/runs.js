// The table: what every answer about this text took, beside FullKV's.

const number = (value, digits = 0) =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const tokens = value => number(value) + (value === 1 ? ' token' : ' tokens');
export const seconds = ms => number(ms / 1000, ms < 10000 ? 2 : 1) + ' s';
const bytes = value => value < 1024 * 1024 ? number(value / 1024) + ' KiB'
  : number(value / 1024 / 1024, value < 100 * 1024 * 1024 ? 1 : 0) + ' MiB';

/// A run's method as people call it, with what was asked for beside it.
export const runName = run => run.method + (run.rate ? `, share ${run.rate}` : '');

/// A figure, and under it what it is of FullKV's, as words and as a bar.
function cell(text, own, full, better) {
  const td = document.createElement('td');
  td.append(text);
  if (!full) return td;
  const ratio = own / full, note = document.createElement('small'), bar = document.createElement('i');
  note.textContent = better === 'more' ? `${number(ratio, ratio < 9.95 ? 1 : 0)}×`
    : ratio > 0.995 || ratio < 0.0001 ? `${number(ratio * 100)} %` : `${number(ratio * 100, ratio < 0.1 ? 1 : 0)} %`;
  bar.className = 'share';
  bar.setAttribute('aria-hidden', 'true');
  bar.style.setProperty('--share', Math.min(1, better === 'more' ? 1 / Math.max(ratio, 1e-6) : ratio));
  td.append(note, bar);
  return td;
}

function row(run, full, shown, onPick) {
  const tr = document.createElement('tr'), th = document.createElement('th'), button = document.createElement('button');
  th.scope = 'row';
  button.type = 'button';
  button.textContent = runName(run);
  button.title = 'Show this answer to “' + run.question + '”';
  if (shown) button.setAttribute('aria-current', 'true');
  button.addEventListener('click', () => onPick(run));
  th.append(button);
  const own = figuresOf(run), other = full && figuresOf(full);
  tr.append(th, cell(number(own.kept), own.kept, other?.kept), cell(seconds(own.firstMs), own.firstMs, other?.firstMs),
            cell(own.rate ? number(own.rate, own.rate < 10 ? 1 : 0) : '–', own.rate, own.rate && other?.rate, 'more'),
            cell(bytes(own.bytes), own.bytes, other?.bytes));
  return tr;
}

const figuresOf = run => ({
  kept: run.usage.kept_tokens.mean,
  firstMs: run.timings.first_token_ms,
  rate: run.timings.predicted_per_second,
  bytes: run.usage.kv_cache_bytes,
});

/// Draws all `runs`, of which one is shown beside the table.
export function showRuns(body, note, runs, shown, onPick) {
  const full = runs.findLast(run => run.method === 'fullkv');
  body.replaceChildren(...runs.map(run => row(run, full, run === shown, onPick)));
  const known = runs.some(run => run.timings.cache_n > 0);
  note.textContent = 'Tokens kept: by a layer per cached head, the mean of all layers. First token: since the question ' +
    'was sent. Cache: with the room set aside for the answer.' +
    (full ? ' Below each figure: of FullKV\u2019s.' : ' Compare with FullKV to see what each saves.') +
    (known ? ' Where an earlier question had been read already, the first token came sooner for it.' : '');
}
