// The chat page: one thread at a time in the log, any number of answers under way. An answer whose thread is not open
// goes on being heard, so that looking elsewhere does not stop it.
import { get, Failure, post, signIn } from './api.js'
import { listen } from './call.js'
import * as composer from './composer.js'
import { $, node, say } from './dom.js'
import { follow } from './follow.js'
import * as keys from './keys.js'
import * as side from './threads.js'
import { Answer, notice, question } from './turns.js'
import { money } from './words.js'

const NAME = 'mcp-server-claude', UNTITLED = 'New thread'
const FIRST = 20, MORE = 20                         // turns of a long thread that are drawn at once, then at a time
const TITLE = 80                                    // characters
const SOON_S = 120                                  // what can be tried again later than this is not offered now
const STARTERS = [
  'Read a PDF and list the clauses that are unusual',
  'A second opinion on a design before I build it',
  'Explain this stack trace and how to prove the fix',
]
const whenIdle = globalThis.requestIdleCallback ?? (run => setTimeout(run, 50))

/** What is open: a thread (empty: a new one), its cost in dollars, its answer that is under way, the button to go on. */
const view = { thread: '', title: UNTITLED, cost: 0, answer: null, opened: 0, more: null }
const live = new Map()                              // call id → the Answer that is still growing

// ---------------------------------------------------------------------- asking

/** Asks in the open thread, and hears the answer to its end. */
async function ask(asked) {
  await ready
  const { text, files, model, effort } = asked, thread = view.thread
  const turn = question(asked), answer = new Answer(composer.modelName)
  $('empty').hidden = true
  $('trouble').replaceChildren()
  view.more?.remove()
  $('turns').append(turn, answer.root)
  if (view.title === UNTITLED) entitle(headOf(text || files[0].name))
  follow.now()
  say('Claude is answering.')
  await hear(answer, { body: { message: text, thread, model, effort, files: files.map(({ name, data }) => ({ name, data })) } })
  const threads = await refresh()
  if (!answer.failed) return
  const isHere = turn.isConnected
  if (isHere && !thread && !threads.some(({ id }) => id === answer.thread)) settle('')   // no thread has come of it
  if (answer.failed.status === 401) {
    composer.restore(asked)
    signIn()
  }
  const instead = (label, run) => answer.offer(label, () => { turn.remove(); answer.root.remove(); run(asked) })
  instead('Edit', composer.restore)
  if (answer.failed.retryable && !(answer.failed.retry_after_s > SOON_S)) instead('Try again', ask)
}

/** Hears one call to its end, whatever the reader looks at meanwhile. */
async function hear(answer, from) {
  view.answer = answer
  answer.thread = view.thread
  composer.busy(true)
  answer.begin()
  try {
    for await (const event of listen(from, drops => lost(answer, drops))) {
      if (event.event === 'start') begun(answer, JSON.parse(event.data))
      else if (event.event === 'usage') booked(answer, event)
      else answer.hear(event)
    }
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    answer.fail({ ...failure.told, status: failure.status })
  } finally {
    ended(answer)
  }
}

/** The call has a name, and its thread, which may be new, has one. */
function begun(answer, { call, thread }) {
  answer.call = call
  answer.calm()
  live.set(call, answer)
  if (answer.stopping) post(`/chat/${call}/stop`, {}).catch(() => {})
  if (answer.thread === thread) return
  answer.thread = thread
  if (view.answer === answer) settle(thread)
  refresh()
}

function booked(answer, event) {
  const before = answer.cost
  answer.hear(event)
  if (view.answer === answer) spend(answer.cost - before)   // a line that dropped may tell it twice
}

function lost(answer, drops) {
  if (drops > 1) answer.note('The connection is lost. Coming back…')
}

function ended(answer) {
  answer.end()
  live.delete(answer.call)
  if (view.answer === answer) {
    view.answer = null
    composer.busy(false)
    follow.keep()
    const words = answer.text.split(/\s+/).filter(Boolean).length
    if (!answer.failed) say(`Answer ${answer.complete ? 'complete' : 'not complete'}, ${words} words.`)
    offerMore(answer)
  }
}

/** With an answer that was cut off one can go on, until something else is asked. */
function offerMore(answer) {
  if (answer.text && !answer.complete && !answer.failed) view.more = answer.offer('Continue', goOn)
}

function goOn() {
  ask({ text: 'Go on exactly where you stopped.', files: [], ...composer.chosen() })
}

/** Stops the answer in view, at the server: what is not written is not paid. */
async function stop() {
  const answer = view.answer
  if (!answer) return
  answer.stopping = true
  answer.do('Stopping')
  if (answer.call) await post(`/chat/${answer.call}/stop`, {}).catch(failure => say(failure.message))
}

// ---------------------------------------------------------------------- opening

/** Shows a thread, or the beginning of a new one. */
async function open(id) {
  const opened = ++view.opened
  drawer(false)
  side.mark(id)
  let thread = { title: UNTITLED, messages: [], cost_usd: 0 }
  try {
    if (id) thread = await get(`/threads/${id}.json`)
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    if (opened === view.opened) missed(id, failure)
    return
  }
  if (opened !== view.opened) return                // another was opened meanwhile
  clear(id, thread)
  composer.choose(thread.model, $('model').value)
  if (!id) composer.focusIfTyping()
  const messages = [...thread.messages], last = messages.at(-1)
  $('turns').append(...messages.splice(-FIRST).map(message => turnOf(message, message === last)))
  follow.now()
  fill(messages, opened)
}

/** A thread that cannot be shown. One that is not there is a new one. */
function missed(id, failure) {
  if (failure.status === 401) return signIn()
  const isGone = failure.status === 404
  clear(isGone ? '' : id, {})
  $('forget').hidden = true
  const again = { label: 'Try again', run: () => open(id) }
  $('trouble').append(isGone ? notice('There is no such thread, or not any more. What you ask begins a new one.')
    : notice(failure.message, { bad: true, action: again }))
}

function clear(id, { title = UNTITLED, cost_usd: cost = 0 }) {
  Object.assign(view, { thread: id, cost: 0, answer: null })
  spend(cost)
  entitle(title)
  composer.busy(false)
  $('turns').replaceChildren()
  $('trouble').replaceChildren()
  $('empty').hidden = Boolean(id)
  $('forget').hidden = !id
}

/** A message of a thread as a turn of the log. One that is being written is heard on. */
function turnOf(message, isLast = false) {
  if (message.role === 'user') return question(message)
  if (!message.running) {
    const answer = new Answer(composer.modelName).show(message)
    if (isLast) offerMore(answer)
    return answer.root
  }
  const known = live.get(message.call)
  const answer = known ?? new Answer(composer.modelName)
  if (known) {
    view.answer = known
    composer.busy(true)
  } else hear(answer, { id: message.call }).then(refresh)
  return answer.root
}

/** Draws the older turns of a long thread when there is time, above those that are read. */
function fill(messages, opened) {
  if (!messages.length) return
  whenIdle(() => {
    if (opened !== view.opened) return
    const log = $('log'), fromEnd = log.scrollHeight - log.scrollTop
    $('turns').prepend(...messages.splice(-MORE).map(message => turnOf(message)))
    log.scrollTop = log.scrollHeight - fromEnd
    fill(messages, opened)
  })
}

/** The open thread has got its id, or lost it. */
function settle(thread) {
  view.thread = thread
  history.replaceState(null, '', thread ? `/t/${thread}` : '/')
  $('forget').hidden = !thread
}

function entitle(title) {
  view.title = title
  $('title').textContent = title
  document.title = `${title === UNTITLED ? 'Chat' : title} · ${NAME}`
}

/** A title as the server will cut it. */
const headOf = text => text.length > TITLE ? `${text.slice(0, TITLE)}…` : text

function spend(usd) {
  view.cost += usd
  $('cost').textContent = view.cost ? money(view.cost) : ''
}

// ---------------------------------------------------------------------- around it

/** The side, after something has changed. Returns the threads that it lists. */
async function refresh() {
  try {
    const running = new Set([...live.values()].map(answer => answer.thread))
    const [threads] = await Promise.all([side.draw(view.thread, running), side.drawMe()])
    const current = threads.find(thread => thread.id === view.thread)
    if (current) entitle(current.title)
    return threads
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    if (failure.status === 401) signIn()
    return []                                       // the next change draws it
  }
}

function go(id) {
  history.pushState(null, '', id ? `/t/${id}` : '/')
  open(id)
}

/** On a phone the side is a drawer. Returns whether something changed. */
function drawer(on) {
  const was = $('chat').dataset.side === 'open'
  $('chat').dataset.side = on ? 'open' : ''
  $('menu').ariaExpanded = String(on)
  $('main').inert = on
  if (on) $('new').focus()
  else if (was) $('menu').focus()
  return was !== on
}

const here = () => /^\/t\/([^/]+)$/.exec(location.pathname)?.[1] ?? ''

function listenToPage() {
  composer.setUp({ send: ask, stop })
  keys.setUp({ close: () => drawer(false), stop, fresh: () => go(''), focus: composer.focus })
  addEventListener('popstate', () => open(here()))
  matchMedia('(min-width: 48rem)').addEventListener('change', () => drawer(false))
  $('menu').addEventListener('click', () => drawer(true))
  $('scrim').addEventListener('click', () => drawer(false))
  $('new').addEventListener('click', () => go(''))
  $('shortcuts').addEventListener('click', () => $('help').showModal())
  $('forget').addEventListener('click', () => side.confirmRemoval({ id: view.thread, title: view.title }, () => {
    go('')
    refresh()
  }))
  $('threads').addEventListener('click', event => {
    const link = event.target.closest('a')
    if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return   // into a tab of its own
    event.preventDefault()
    go(link.dataset.thread)
  })
  $('starters').append(...STARTERS.map(text => node('li', {}, node('button', {
    type: 'button', textContent: text, onclick: () => composer.begin(`${text}: `),
  }))))
}

async function begin() {
  const models = await get('/models.json').catch(failure => failure)
  if (!(models instanceof Error)) composer.offer(models)
  await open(here())
  if (models instanceof Error) $('trouble').append(notice(models.message, { bad: true }))
}

listenToPage()
refresh()
const ready = begin()                               // what is asked before waits for it
