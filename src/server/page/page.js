// The page: a text, a question, a method; the answer as it comes; and which of the text's tokens each layer kept.
import { ServerError, get, post, setKey, stream } from './client.js';
import { Kept } from './kept.js';
import { LayerMap } from './map.js';
import { runName, seconds, showRuns, tokens } from './runs.js';
import { Shaded } from './shaded.js';

const $ = id => document.getElementById(id);

let props = null;      // of the server
let runs = [];         // answers about the text, in the order in which they were asked for
let runsText = '';     // which text that is
let shown = null;      // the run whose answer is shown
let shownKept = null;  // and the one whose shading is: the same as soon as its text has been read
let layer = -1;        // that is shown; -1: all
let asking = null;     // the AbortController of the question under way

const shaded = new Shaded($('shaded'), describeToken);
const map = new LayerMap($('map'), $('map-layer'), (pickedLayer, token) => { showLayer(pickedLayer); shaded.scrollTo(token); });

// ---- what goes wrong ----

function showError(message) {
  $('error').textContent = message;
  $('error').hidden = !message;
}

/// Asks for the key and tries again, or says in words what happened.
function report(error, again) {
  if (error.status === 401) return askForKey(again);
  showError(error instanceof ServerError ? error.message : 'This page failed: ' + error.message);
}

let afterKey = null;

function askForKey(again) {
  if (!$('key-dialog').open) {
    if (afterKey) $('key-text').textContent = 'The server does not know that key. Try another.';
    $('key').value = '';
    $('key-dialog').showModal();
  }
  afterKey = again;
}

$('key-form').addEventListener('submit', () => {
  setKey($('key').value.trim());
  afterKey();
});

// ---- the server ----

async function connect() {
  try {
    props = await get('props');
  } catch (error) {
    $('model').textContent = 'Not connected.';
    return report(error, connect);
  }
  showError('');
  const name = props.model_alias.split('/').pop();
  $('model').textContent = `${name} · ${tokens(props.default_generation_settings.n_ctx)} of context · ` + props.build_info;
  document.title = `fastkv · ${name}`;
  $('methods').replaceChildren(...props.methods.map(methodChoice));
  showMethod();
  countTokens();
}

const isDefault = method => method === props.fastkv.method;

function methodChoice(method) {
  const label = document.createElement('label'), input = document.createElement('input');
  input.type = 'radio';
  input.name = 'method';
  input.value = method.name;
  input.checked = isDefault(method.name);
  input.addEventListener('change', switchMethod);
  label.append(input, method.name);
  return label;
}

/// The switch stands where the answer that is shown comes from.
function chooseMethod(name) {
  const input = [...document.querySelectorAll('#methods input')].find(each => each.value === name);
  if (input) input.checked = true;
  showMethod();
}

const chosenMethod = () => document.querySelector('#methods :checked')?.value;

function showMethod() {
  const method = props.methods.find(each => each.name === chosenMethod());
  const hasRate = method.params.includes('retain_rate');
  $('method-text').textContent = method.summary;
  $('rate').disabled = !hasRate;
  $('rate').placeholder = !hasRate ? 'not used' : isDefault(method.name) && props.fastkv.retain_rate
    ? String(props.fastkv.retain_rate) : 'default';
  for (const input of document.querySelectorAll('#methods input')) {
    const answered = runsOfQuestion().some(run => run.method === input.value);
    input.parentElement.classList.toggle('answered', answered);
    input.setAttribute('aria-label', input.value + (answered ? ', answered' : ''));
  }
}

/// An answer that this method has given to the question is shown; otherwise it is for the next question.
function switchMethod() {
  showMethod();
  const run = runsOfQuestion().findLast(each => each.method === chosenMethod());
  if (run) show(run);
}

const runsOfQuestion = () =>
  runsText === $('text').value ? runs.filter(run => run.question === $('question').value.trim()) : [];

// ---- the text ----

async function openFile(file) {
  showError('');
  if (file.size > 8e6) return showError(`${file.name} has ${Math.round(file.size / 1e6)} MB: too long for any model. The page takes up to 8 MB.`);
  let text;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());
  } catch (error) {
    return showError(error instanceof TypeError ? `${file.name} is not a text in UTF-8.` : `${file.name} cannot be read.`);
  }
  if (text.includes('\0')) return showError(`${file.name} is not a text file: it contains zero bytes.`);
  if (!text.trim()) return showError(`${file.name} is empty.`);
  $('text').value = text;
  showInput(true);
  textChanged();
}

let counting = 0;

function textChanged() {
  clearTimeout(counting);
  counting = setTimeout(countTokens, 400);
  showMethod();
}

/// How much of the context the text takes.
async function countTokens() {
  const text = $('text').value;
  if (!text.trim()) return $('size').textContent = 'No text yet.';
  if (!props) return;
  let count;
  try {
    ({ count } = await post('tokenize', { content: text, parse_special: false }));
  } catch (error) {
    return report(error, countTokens);
  }
  if (text !== $('text').value) return;
  const nCtx = props.default_generation_settings.n_ctx;
  $('size').textContent = count < nCtx ? `${tokens(count)}, ${Math.ceil(count / nCtx * 100)} % of the context.`
    : `${tokens(count)}: longer than the context of ${tokens(nCtx)}. Shorten it before you ask.`;
}

function showInput(input) {
  $('input').hidden = !input;
  $('kept').hidden = input;
  $('show-input').setAttribute('aria-pressed', input);
  $('show-kept').setAttribute('aria-pressed', !input);
  if (!input) map.draw();
}

$('text').addEventListener('input', textChanged);
$('question').addEventListener('input', () => props && showMethod());
$('show-input').addEventListener('click', () => showInput(true));
$('show-kept').addEventListener('click', () => showInput(false));
$('choose').addEventListener('click', () => $('file').click());
$('file').addEventListener('change', event => {
  if (event.target.files[0]) openFile(event.target.files[0]);
  event.target.value = '';
});

const hasFile = event => event.dataTransfer?.types.includes('Files');
const over = is => $('document').classList.toggle('over', is);
addEventListener('dragover', event => {
  if (!hasFile(event)) return;
  event.preventDefault();
  over(true);
});
addEventListener('dragleave', event => { if (!event.relatedTarget) over(false); });
addEventListener('drop', event => {
  over(false);
  if (!hasFile(event)) return;
  event.preventDefault();
  if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
});
addEventListener('paste', event => {
  const file = event.clipboardData?.files[0];
  if (!file) return;
  event.preventDefault();
  openFile(file);
});

// ---- a question ----

const chatBody = (text, question) => ({ messages: [{ role: 'user', content: text + '\n\n' + question }] });
const plainBody = (text, question) => ({ prompt: `${text}\n\nQuestion: ${question}\nAnswer:` });

/// What is asked: of models without a chat template as a text to go on with.
function requestOf(run) {
  const [path, body] = props.has_chat_template ? ['v1/chat/completions', chatBody(run.text, run.question)]
    : ['v1/completions', plainBody(run.text, run.question)];
  const fastkv = { method: run.method, layers: true };
  if (run.rate) fastkv.retain_rate = run.rate;
  return [path, { ...body, max_tokens: run.longest, stream_options: { include_usage: true }, fastkv }];
}

function newRun(method) {
  return { method, text: $('text').value, question: $('question').value.trim(), answer: '', rate: null,
           longest: Math.round(Number($('longest').value)) || 300 };
}

/// What is missing before a question can be asked, and where; nothing where all is there.
function missing() {
  if (!props) return ['The server has not answered yet. Reload the page.', 'ask'];
  if (!$('text').value.trim()) return ['There is no text yet: paste one, or drop a file.', 'text'];
  if (!$('question').value.trim()) return ['What is the question?', 'question'];
  if (!$('rate').disabled && !$('rate').checkValidity()) return ['The share kept is a number from 0.01 to 1.', 'rate'];
  if (!$('longest').checkValidity()) return ['The longest answer is a whole number of tokens.', 'longest'];
}

function ask() {
  const lack = missing();
  if (lack) {
    showError(lack[0]);
    if (lack[1] === 'text') showInput(true);
    return $(lack[1]).focus();
  }
  const run = newRun(chosenMethod());
  if (!$('rate').disabled && $('rate').value) run.rate = Number($('rate').value);
  start(run);
}

async function start(run) {
  asking?.abort();
  const own = asking = new AbortController();
  begin(run);
  try {
    await follow(run, own.signal);
    runs.push(run);
    end(answeredText(run));
  } catch (error) {
    if (asking !== own) return;  // another question has taken its place
    end(error.name === 'AbortError' ? 'Stopped.' : 'No answer.');
    if (error.name !== 'AbortError') report(error, () => start({ ...run, answer: '' }));
  }
}

const answeredText = run => `Answered by ${runName(run)}: first token after ${seconds(run.timings.first_token_ms)}, ` +
  tokens(run.timings.predicted_n) + (run.reason === 'length' ? ', cut at the longest answer.' : '.');

const say = text => { $('status').textContent = text; };

function begin(run) {
  if (run.text !== runsText) runs = [];
  runsText = run.text;
  shown = run;
  showError('');
  $('answer').textContent = '';
  $('answer').setAttribute('aria-busy', 'true');
  say(`${runName(run)} reads the text …`);
  $('stop').disabled = false;
  $('compare').disabled = true;
  $('kept').classList.add('stale');
  drawRuns();
  chooseMethod(run.method);
}

function end(status) {
  asking = null;
  say(status);
  $('kept').classList.remove('stale');
  $('answer').setAttribute('aria-busy', 'false');
  $('stop').disabled = true;
  drawRuns();
  showMethod();
}

async function follow(run, signal) {
  for await (const chunk of stream(...requestOf(run), signal)) {
    if (chunk.fastkv?.layers) {
      run.kept = new Kept(chunk.fastkv);
      showKept(run);
      say(`${runName(run)} answers …`);
    }
    const choice = chunk.choices[0];
    addText(run, choice?.delta?.content ?? choice?.text ?? '');
    run.reason = choice?.finish_reason ?? run.reason;
    run.timings = chunk.timings ?? run.timings;
    run.usage = chunk.usage ?? run.usage;
  }
}

/// An answer that is longer than its place is followed to its end, unless somebody has scrolled up.
function addText(run, text) {
  const own = run.answer ? text : text.trimStart(), place = $('answer');
  if (!own) return;
  run.answer += own;
  const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 30;
  place.append(own);
  if (atEnd) place.scrollTop = place.scrollHeight;
}

function stop() {
  asking?.abort();
}

$('form').addEventListener('submit', event => {
  event.preventDefault();
  ask();
});
$('question').addEventListener('keydown', event => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
$('text').addEventListener('keydown', event => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) ask();
});
addEventListener('keydown', event => { if (event.key === 'Escape') stop(); });
$('stop').addEventListener('click', stop);
$('compare').addEventListener('click', () => {
  start({ ...newRun('fullkv'), text: shown.text, question: shown.question, longest: shown.longest });
});

// ---- an answer and what was kept for it ----

function drawRuns() {
  const fullAnswered = runs.some(run => run.method === 'fullkv' && run.question === shown?.question);
  $('compare').disabled = Boolean(asking) || runs.length === 0 || fullAnswered;
  showRuns($('runs'), $('runs-text'), runs, shown, show);
}

/// An earlier answer.
function show(run) {
  if (asking) return;
  shown = run;
  $('answer').textContent = run.answer;
  $('question').value = run.question;
  say(answeredText(run));
  showKept(run);
  drawRuns();
  chooseMethod(run.method);
}

function showKept(run) {
  shownKept = run;
  $('kept').classList.remove('stale');
  $('show-kept').disabled = false;
  $('layer').max = run.kept.nLayer - 1;
  showInput(false);
  shaded.show(run.kept);
  map.show(run.kept);
  showLayer(Math.min(layer, run.kept.nLayer - 1));
}

function showLayer(index) {
  layer = index;
  $('layer').value = index;
  $('layer-name').textContent = index < 0 ? 'all' : `${index} of ${shownKept.kept.nLayer - 1}`;
  $('layer').setAttribute('aria-valuetext', index < 0 ? 'all layers' : `layer ${index}`);
  $('layer-text').textContent = layerText(shownKept, index);
  shaded.shade(index);
  map.mark(index);
}

function layerText(run, index) {
  const { kept } = run, n = kept.pieces.length, count = value => value.toLocaleString('en');
  if (index < 0) {
    return `${runName(run)}, all layers: the stronger the mark, the more of all heads kept a token` +
      (kept.drops ? '. Underlined: it reached the last layer.' : '.');
  }
  const own = kept.layers[index];
  const read = own.rows === n ? `reads all ${tokens(n)}` : `reads ${tokens(own.rows)} of ${count(n)}`;
  const keeps = own.cached === own.rows ? 'keeps them all' : `each of its ${own.nHeads} heads keeps ${count(own.cached)}`;
  return `${runName(run)}, layer ${index}: ${read}, ${keeps}` +
    (own.nPropagated ? `. ${count(own.nPropagated)} went on (underlined).` : '.');
}

function describeToken(token) {
  const { kept } = shownKept;
  const piece = JSON.stringify(kept.pieces[token]);
  const everywhere = `${Math.round(kept.mean[token] * 100)} % of all heads`;
  const own = kept.layers[layer];
  const nHeads = own && own.heads[token] * own.nHeads / own.nLists;
  const here = !own ? '' : own.read[token] ? `by ${nHeads} of ${own.nHeads} heads of layer ${layer}, `
    : `not read by layer ${layer}, `;
  $('token').textContent = `Token ${token.toLocaleString('en')}, ${piece}: kept ${here}by ${everywhere}`;
}

$('layer').addEventListener('input', event => showLayer(Number(event.target.value)));

drawRuns();
connect();
