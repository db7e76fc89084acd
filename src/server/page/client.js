// The server's API: requests with the key, answers that stream, errors in words. It asks nobody but the server that the
// page came from.

const keyName = 'fastkv-key';
let key = '';
try { key = sessionStorage.getItem(keyName) ?? ''; } catch { /* no storage: the key lives as long as the page */ }

/// Of this tab only.
export function setKey(value) {
  key = value;
  try { sessionStorage.setItem(keyName, value); } catch { /* the same */ }
}

export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function request(path, options) {
  const headers = { 'Content-Type': 'application/json' };
  if (key) headers.Authorization = 'Bearer ' + key;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ServerError(error instanceof TypeError && /[^\x20-\xff]/.test(key)
      ? 'A key cannot have such characters.' : 'The server does not answer. Is fastkv serve still running?');
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  const message = said?.error?.message ?? 'it said only: status ' + response.status;
  throw new ServerError(response.status === 429 ? 'The server is busy: ' + message + '. Try again soon.'
    : 'The server refused: ' + message, response.status);
}

export const get = async path => (await request(path, {})).json();
export const post = async (path, body, signal) =>
  (await request(path, { method: 'POST', body: JSON.stringify(body), signal })).json();

/// The objects of a stream, as they come.
export async function* stream(path, body, signal) {
  const response = await request(path, { method: 'POST', body: JSON.stringify({ ...body, stream: true }), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) break;
      text += value;
      const events = text.split('\n\n');
      text = events.pop();
      for (const event of events) {
        if (event === 'data: [DONE]') return;
        if (!event.startsWith('data: ')) continue;  // a sign of life
        const chunk = JSON.parse(event.slice(6));
        if (chunk.error) throw new ServerError('The server broke off: ' + chunk.error.message, chunk.error.code);
        yield chunk;
      }
    }
  } catch (error) {
    if (error.name === 'AbortError' || error instanceof ServerError) throw error;
    throw new ServerError('The connection broke off while the answer was being written.');
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new ServerError('The server ended the answer before it was done.');
}
