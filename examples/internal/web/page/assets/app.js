// The page of the users service. It follows first and lists then, so that nobody created in between is missed.

const $ = (id) => document.getElementById(id);
const traces = document.body.dataset.traces.replace(/\/$/, '');
const maxRequests = 50;

/** Makes an element with a class and children, which are nodes or text. Nothing from outside becomes HTML. */
function element(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

// Requests: every one is shown with its ids.

/** Sends a request and shows it. Returns the response and a function that shows how the request ended. */
async function send(method, path, init = {}) {
  const start = performance.now();
  const shown = showRequest(method, path);
  const headers = new Headers(init.headers);
  const fault = $('fault')?.value;
  if (fault && !forAll && !headers.has('X-Fault')) headers.set('X-Fault', fault);
  try {
    const response = await fetch(path, { ...init, method, headers });
    const ids = { requestId: response.headers.get('X-Request-Id'), traceId: traceIdOf(response) };
    shown({ status: response.status, ...ids });
    return [response, (error) => shown({ status: response.status, took: performance.now() - start, error, ...ids })];
  } catch (e) {
    const error = { code: 'NETWORK', message: e.message };
    shown({ status: 0, took: performance.now() - start, error });
    throw error;
  }
}

/** The trace id of a response: Server-Timing: traceparent;desc="00-<trace id>-<span id>-<flags>". */
function traceIdOf(response) {
  return /traceparent;desc="[0-9a-f]{2}-([0-9a-f]{32})-/.exec(response.headers.get('Server-Timing') ?? '')?.[1];
}

function showRequest(method, path) {
  const item = element('li');
  $('requests').prepend(item);
  while ($('requests').children.length > maxRequests) $('requests').lastChild.remove();
  const show = ({ status, took, error, requestId, traceId }) => {
    item.className = status >= 400 && status < 500 ? 'warn' : error || status >= 500 ? 'bad' : 'good';
    item.replaceChildren(
      element('span', 'status', status ? String(status) : status === 0 ? 'failed' : '…'),
      element('span', 'what', `${method} ${path}`),
      element('span', 'took', took === undefined ? '' : `${took < 10 ? took.toFixed(1) : Math.round(took)} ms`),
    );
    if (requestId) item.append(idList(requestId, traceId));
    if (error) item.append(element('span', 'why', `${nameOf(error)}: ${error.message}`));
  };
  show({});
  return show;
}

function idList(requestId, traceId) {
  const list = element('dl', '', element('dt', '', 'request'), element('dd', '', copyable(requestId, 'request id')));
  if (traceId) list.append(element('dt', '', 'trace'), element('dd', '', traceLink(traceId)));
  return list;
}

function traceLink(traceId) {
  if (!traces) return copyable(traceId, 'trace id');
  const link = element('a', 'trace', traceId);
  link.href = `${traces}/trace/${traceId}`;
  link.target = '_blank';
  link.rel = 'noopener';
  return link;
}

function copyable(text, what) {
  const button = element('button', 'copy', text);
  button.type = 'button';
  button.title = `Copy the ${what}`;
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(text);
    $('copied').textContent = `${what} copied`;
  });
  return button;
}

// Errors: code and reason, then what is said to strangers.

const nameOf = ({ code, reason }) => [code, reason === code ? '' : reason].filter(Boolean).join(' ');

function showError(where, error) {
  const message = element('p', 'result bad', element('b', '', nameOf(error)), error.message);
  if (error.requestId) message.append(element('span', 'hidden', `, request ${error.requestId}`));
  $(where).replaceChildren(message);
}

/** The error of a response that is one. */
async function errorOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return { code: `HTTP ${response.status}`, message: response.statusText };
  }
}

// The users.

const listed = new Map();

function showUser(user, fresh) {
  if (listed.has(user.id)) return;
  const created = new Date(user.created);
  const time = element('time', '', created.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' }));
  time.dateTime = user.created;
  const face = element('span', 'face', [...user.name][0].toUpperCase());
  face.ariaHidden = 'true';
  const item = element('li', fresh ? 'fresh' : '',
    face,
    element('span', 'who', user.name),
    element('span', 'id', copyable(user.id, 'user id')),
    element('span', 'mail', user.email),
    time);
  if (me?.admin) item.append(acts(user, item));
  listed.set(user.id, item);
  $('users').prepend(item); // the newest is the first
  showCount();
}

/** What admins may do with a user. */
function acts(user, item) {
  const events = element('ol');
  const act = (text, title, onclick) => {
    const button = element('button', 'quiet small', text);
    button.type = 'button';
    button.ariaLabel = `${title} ${user.name}`;
    button.addEventListener('click', onclick);
    return button;
  };
  const history = act('History', 'History of', async () => {
    events.replaceChildren();
    await read(`/users/${user.id}/history`, 'list-result', (e) => {
      const by = e.actor === me.id ? 'you' : e.actor;
      events.append(element('li', '', `${new Date(e.time).toLocaleTimeString()}  ${e.action} by ${by}`));
    });
  });
  const remove = act('Delete', 'Delete', async () => {
    if (!(await ask('DELETE', `/users/${user.id}`, 'list-result'))) return;
    listed.delete(user.id);
    item.remove();
    showCount();
  });
  return element('span', 'acts', history, ...(user.id === me.id ? [] : [remove]), events);
}

/** Sends a request whose answer is of no interest, and shows what is wrong. Tells whether it went well. */
async function ask(method, path, where, init) {
  $(where).replaceChildren();
  try {
    const [response, ended] = await send(method, path, init);
    const error = response.ok ? undefined : await errorOf(response);
    ended(error);
    if (error) showError(where, error);
    else await response.body?.cancel();
    return response.ok;
  } catch (e) {
    showError(where, { code: 'NETWORK', message: e.message });
    return false;
  }
}

function showCount() {
  $('count').textContent = listed.size;
  $('empty').hidden = listed.size > 0;
}

function forget() {
  listed.clear();
  $('users').replaceChildren();
  $('count').textContent = '0';
}

/** Gets the users with these ids, all without, and shows each as it arrives. */
async function list(ids = []) {
  const query = new URLSearchParams(ids.map((id) => ['id', id]));
  forget();
  if (await read(query.size ? `/users/?${query}` : '/users/', 'list-result', showUser)) showCount();
}

/** Gets what has a line for each thing, and shows each as it arrives. Tells whether it went well. */
async function read(path, where, show) {
  $(where).replaceChildren();
  let ended, error;
  try {
    let response;
    [response, ended] = await send('GET', path);
    if (response.ok) {
      for await (const line of linesOf(response)) {
        if (line.error) error = line.error;
        else show(line);
      }
    } else {
      error = await errorOf(response);
    }
  } catch (e) {
    error = e.code ? e : { code: 'NETWORK', message: e.message };
  }
  ended?.(error);
  if (error) showError(where, error);
  return !error;
}

/** The JSON values of a response, one a line, as they arrive. */
async function* linesOf(response) {
  let rest = '';
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split('\n');
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

$('find').addEventListener('submit', (event) => {
  event.preventDefault();
  const ids = $('id').value.split(/[\s,]+/).filter(Boolean);
  filtered = ids.length > 0;
  list(filtered ? ids : visible());
});

/** The ids of the users to list where none is asked for: users see themselves, admins and everybody else see all. */
const visible = () => (me && !me.admin ? [me.id] : []);

let filtered = false; // created users are not shown among those asked for

// Adding.

$('add').addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector('button');
  button.disabled = true;
  for (const name of ['name', 'email']) showViolation(name, '');
  $('add-result').replaceChildren();
  try {
    const body = JSON.stringify({ name: form.name.value, email: form.email.value });
    const [response, ended] = await send('POST', '/users/', { body, headers: { 'Content-Type': 'application/json' } });
    if (response.ok) {
      const user = await response.json();
      ended();
      if (!filtered) showUser(user, true);
      $('add-result').replaceChildren(element('p', 'result good', `${user.name} was added.`));
      $('name').value = $('email').value = '';
      $('name').focus();
    } else {
      const error = await errorOf(response);
      ended(error);
      showAddError(error);
    }
  } catch (error) {
    showError('add-result', error.code ? error : { code: 'NETWORK', message: error.message });
  } finally {
    button.disabled = false;
  }
});

function showAddError(error) {
  showError('add-result', error);
  showViolations('', error);
  document.querySelector('#add [aria-invalid="true"]')?.focus();
}

/** Shows what is wrong with the fields of a form, whose ids begin with prefix. */
function showViolations(prefix, error) {
  for (const { field, description } of error.fields ?? []) showViolation(prefix + field.replace('user.', ''), description);
  if (error.reason === 'USER_EMAIL_TAKEN') showViolation(`${prefix}email`, 'is taken by another user');
}

function showViolation(name, description) {
  if (!$(name)) return;
  $(name).ariaInvalid = String(description !== '');
  $(`${name}-error`).textContent = description;
}

// Who is logged in: a user; null for nobody; undefined where nobody has to.

let me;
let signingUp = false;

$('enter-other').addEventListener('click', () => {
  signingUp = !signingUp;
  $('enter-name-field').hidden = !signingUp;
  $('entrance-title').textContent = $('enter-submit').textContent = signingUp ? 'Sign up' : 'Log in';
  $('enter-other').textContent = signingUp ? 'Log in instead' : 'Sign up instead';
  $('enter-password').autocomplete = signingUp ? 'new-password' : 'current-password';
  clearEntrance();
});

function clearEntrance() {
  $('enter-result').replaceChildren();
  for (const name of ['name', 'email', 'password']) showViolation(`enter-${name}`, '');
}

$('enter').addEventListener('submit', async (event) => {
  event.preventDefault();
  clearEntrance();
  const { name, email, password } = Object.fromEntries(new FormData(event.target));
  const body = JSON.stringify(signingUp ? { name, email, password } : { email, password });
  $('enter-submit').disabled = true;
  try {
    const [response, ended] = await send('POST', signingUp ? '/users/me' : '/session', { body, headers: { 'Content-Type': 'application/json' } });
    if (response.ok) {
      const session = await response.json();
      ended();
      event.target.reset();
      enter(session.user);
    } else {
      const error = await errorOf(response);
      ended(error);
      showError('enter-result', error);
      showViolations('enter-', error);
      document.querySelector('#enter [aria-invalid="true"]')?.focus();
    }
  } catch (error) {
    showError('enter-result', { code: 'NETWORK', message: error.message });
  } finally {
    $('enter-submit').disabled = false;
  }
});

$('log-out').addEventListener('click', async () => {
  if (await ask('DELETE', '/session', 'list-result')) leave();
});

/** Shows the page to user; undefined where nobody has to log in. */
function enter(user) {
  me = user;
  $('entrance').hidden = true;
  for (const e of document.querySelectorAll('.inside')) e.hidden = false;
  $('who').hidden = $('log-out').hidden = !user;
  $('who').textContent = user ? `${user.name}${user.admin ? ' (admin)' : ''}` : '';
  filtered = false;
  follow();
}

function leave(error) {
  me = null;
  events?.close();
  clearTimeout(again);
  showState('off', 'not following');
  forget();
  $('list-result').replaceChildren();
  $('find').reset();
  $('add').reset();
  $('add-result').replaceChildren();
  for (const name of ['name', 'email']) showViolation(name, '');
  $('entrance').hidden = false;
  $('who').hidden = $('log-out').hidden = true;
  for (const e of document.querySelectorAll('.inside')) e.hidden = true;
  clearEntrance();
  if (error) showError('enter-result', error);
  $('enter-email').focus();
}

/** Asks whose session the browser has. */
async function begin() {
  const [response, ended] = await send('GET', '/session');
  if (response.ok) {
    const session = await response.json();
    ended();
    enter(session.user);
    return;
  }
  const error = await errorOf(response);
  ended(error);
  if (response.status === 501) enter(undefined);
  else leave(response.status === 401 ? undefined : error);
}

$('many').addEventListener('click', async () => {
  const one = async () => {
    const [response, ended] = await send('GET', '/session');
    ended(response.ok ? undefined : await errorOf(response));
  };
  await Promise.allSettled(Array.from({ length: 60 }, one));
});

// Faults: of the requests of this page, or of everybody's for a minute.

let forAll = ''; // what everybody has
let over; // when the minute is

$('fault')?.addEventListener('change', letFail);
$('fault-all')?.addEventListener('change', letFail);

async function letFail() {
  const wanted = $('fault-all').checked ? $('fault').value : '';
  if (wanted || forAll) {
    clearTimeout(over);
    const headers = { 'X-Fault': `all:${wanted || 'none'}` };
    if (!(await ask('GET', me ? '/session' : '/users/', 'list-result', { headers }))) return;
    forAll = wanted;
    if (wanted) over = setTimeout(noFault, 60000);
  }
  $('fault-hint').textContent = forAll
    ? `Every call to the users service has it until ${new Date(Date.now() + 60000).toLocaleTimeString()}.`
    : 'It is for the requests of this page.';
}

function noFault() {
  forAll = $('fault').value = '';
  $('fault-hint').textContent = 'The minute is over.';
}

// Following.

let events, again;

function follow() {
  const shownRequest = showRequest('GET', '/users/events');
  events = new EventSource('/users/events');
  let error;
  events.addEventListener('subscribed', (event) => {
    showState('live', 'following');
    shownRequest({ status: 200, ...JSON.parse(event.data) });
    if (!filtered) list(visible());
  });
  events.addEventListener('created', (event) => {
    if (!filtered) showUser(JSON.parse(event.data), true);
  });
  events.addEventListener('failed', (event) => {
    error = JSON.parse(event.data).error;
    shownRequest({ status: 200, error, ...error });
  });
  events.onerror = () => {
    events.close();
    if (error?.code === 'UNAUTHENTICATED') {
      leave(error);
      return;
    }
    showState('lost', 'not following, trying again');
    if (!error) shownRequest({ status: 0, error: { code: 'NETWORK', message: 'the event stream ended' } });
    again = setTimeout(follow, 3000);
  };
}

function showState(state, text) {
  $('following').dataset.state = state;
  $('following').textContent = text;
}

begin().catch((error) => leave({ code: 'NETWORK', message: error.message }));
