// The chat page: one thread at a time in the log, any number of answers under way. The answer of a thread that is not
// open is still read, so that opening another thread does not stop it.
import { get, Failure, post, signIn } from './api.js'
import { listen } from './call.js'
import * as composer from './composer.js'
import { $, node, say } from './dom.js'
import { limits } from './files.js'
import { follow } from './follow.js'
import * as jobs from './jobs.js'
import * as keys from './keys.js'
import { announceChange, onChange } from './tabs.js'
import * as side from './threads.js'
import { Answer, notice, question } from './turns.js'
import { money } from './words.js'

const NAME = 'mcp-server-claude', UNTITLED = 'New thread'
const FIRST = 20, MORE = 20                         // turns of a long thread that are drawn at once, then at a time
const TITLE = 80                                    // characters
const SOON_S = 120                                  // "Try again" is not offered for errors that last longer
const REFRESH_INTERVAL_MS = 15_000
const CONTINUE = 'Continue exactly where you left off.'
const FULL = 'model_context_window_exceeded'        // a thread that cannot be continued
const STARTERS = [
  'Read a PDF and list the unusual clauses',
  'Give a second opinion on a design before I build it',
  'Explain this stack trace and how to prove the fix',
]
const whenIdle = globalThis.requestIdleCallback ?? (run => setTimeout(run, 50))

/**
 * The open thread (empty: a new one), its cost in dollars, the time of its last question, its answer that is under way,
 * the button below its last answer, and whether older turns are still to be drawn.
 */
const view = { thread: '', title: UNTITLED, cost: 0, updated: 0, answer: null, opened: 0, more: null, isFilling: false }
const live = new Map()                              // call id → the Answer that is still growing

// ---------------------------------------------------------------------- asking

/** Asks in the open thread, and reads the answer to its end. */
async function ask(asked) {
  await ready
  const { text, files, model, effort, approval } = asked, thread = view.thread
  const turn = question(asked), answer = new Answer(composer.modelName)
  $('empty').hidden = true
  $('trouble').replaceChildren()
  view.more?.remove()
  $('turns').append(turn, answer.root)
  if (view.title === UNTITLED) entitle(headOf(text || files[0].name))
  follow.now()
  say('Claude is answering.')
  await hear(answer, { body: { message: text, thread, model, effort, approval, files: files.map(({ name, data }) => ({ name, data })) } })
  if (answer.failed?.status === 401) {
    composer.restore(asked)
    return signIn()
  }
  const threads = await refresh()
  if (!answer.failed) return
  const isHere = turn.isConnected
  if (isHere && !thread && !threads.some(({ id }) => id === answer.thread)) settle('')   // the failed thread was not kept
  const instead = (label, run) => answer.offer(label, () => { turn.remove(); answer.root.remove(); run(asked) })
  if (answer.failed.approval) instead('Send', () => ask({ ...asked, approval: answer.failed.approval }))
  instead('Edit', composer.restore)
  if (answer.failed.kind === 'too_long' && thread) instead('Ask in a new thread', askAnew)
  else if (answer.failed.retryable && !(answer.failed.retry_after_s > SOON_S)) instead('Try again', ask)
}

async function askAnew(asked) {
  await go('')
  ask(asked)
}

/** Reads one call to its end, whatever thread is open meanwhile. */
async function hear(answer, from) {
  view.answer ??= answer
  answer.thread = view.thread
  composer.busy(true)
  answer.begin()
  let isAnnounced = !from.body
  try {
    for await (const event of listen(from, drop => lost(answer, drop))) {
      if (event.event === 'start') begun(answer, JSON.parse(event.data))
      else if (event.event === 'usage') book(answer, event)
      else answer.apply(event)
      if (!isAnnounced && isUnderWay(event)) {
        isAnnounced = true
        announceChange(answer.thread)
      }
    }
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    answer.fail({ ...failure.error, status: failure.status })
  } finally {
    ended(answer)
    if (from.body && answer.thread) announceChange(answer.thread)
  }
}

/** True for events that come after the question is part of the thread. */
const isUnderWay = ({ event, data }) => event === 'message' || (event === 'status' && JSON.parse(data).state !== 'waiting')

/** The call has an id, and so has its thread if it is new. */
function begun(answer, { call, thread }) {
  answer.call = call
  answer.clearWait()
  live.set(call, answer)
  if (answer.stopping) post(`/chat/${call}/stop`, {}).catch(() => {})
  if (answer.thread === thread) return
  answer.thread = thread
  if (view.answer === answer) settle(thread)
  refresh()
}

function book(answer, event) {
  const before = answer.cost
  answer.apply(event)
  if (answer.root.isConnected) spend(answer.cost - before)   // after a lost connection it may come twice
}

function lost(answer, { drops, isRestart }) {
  if (isRestart) answer.note('The server is restarting…')
  else if (drops > 1) answer.note('The connection is lost, or the server is restarting. Reconnecting…')
}

function ended(answer) {
  answer.end()
  live.delete(answer.call)
  if (view.answer !== answer) return
  view.answer = [...live.values()].find(({ thread }) => thread === view.thread) ?? null
  const isComplete = answer.complete && !answer.failed
  if (!view.answer) composer.busy(false, { sendQueued: isComplete })
  follow.keep()
  const words = answer.text.split(/\s+/).filter(Boolean).length
  if (!answer.failed) say(`Answer ${answer.complete ? 'complete' : 'not complete'}, ${words} words.`)
  offerMore(answer)
}

/** Offers the next step after an incomplete answer, until the next question. */
function offerMore(answer) {
  if (!answer.text || answer.complete || answer.failed || answer.stopReason === 'refusal' || answer.isBudgetUsedUp) return
  if (answer.stopReason === FULL) view.more = answer.offer('New thread', () => go(''))
  else view.more = answer.offer('Continue', () => ask({ text: CONTINUE, files: [], ...composer.chosen() }))
}

/** Stops the answer in view at the server, so that the rest is neither written nor paid. */
async function stop() {
  const answer = view.answer
  if (!answer) return
  answer.stopping = true
  answer.stop()
  if (answer.call) await post(`/chat/${answer.call}/stop`, {}).catch(failure => say(failure.message))
}

// ---------------------------------------------------------------------- opening

/** Shows a thread, or an empty new one. */
async function open(id) {
  const opened = ++view.opened
  drawer(false)
  side.mark(id)
  let thread = { title: UNTITLED, messages: [], cost_usd: 0 }
  try {
    if (id) thread = await get(`/threads/${id}.json`)
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    if (opened === view.opened) showMissing(id, failure)
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

/** Shows why a thread cannot be read. In place of one that does not exist there is a new one. */
function showMissing(id, failure) {
  if (failure.status === 401) return signIn()
  const isGone = failure.status === 404
  clear(isGone ? '' : id, {})
  $('forget').hidden = true
  const again = { label: 'Try again', run: () => open(id) }
  $('trouble').append(isGone ? notice('This thread no longer exists. Your next message starts a new one.')
    : notice(failure.message, { bad: true, action: again }))
}

function clear(id, { title = UNTITLED, cost_usd: cost = 0, updated = 0 }) {
  Object.assign(view, { thread: id, cost: 0, updated, answer: null, isFilling: false })
  spend(cost)
  entitle(title)
  composer.busy(false)
  $('turns').replaceChildren()
  $('trouble').replaceChildren()
  $('empty').hidden = Boolean(id)
  $('forget').hidden = !id
}

/** A message of a thread as a turn of the log. An answer that is being written is read on. */
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
    view.answer ??= known
    composer.busy(true)
  } else {
    answer.call = message.call
    live.set(answer.call, answer)
    hear(answer, { id: answer.call }).then(refresh)
  }
  return answer.root
}

/** Draws the older turns of a long thread when there is time, above the others. */
function fill(messages, opened) {
  view.isFilling = messages.length > 0
  if (!view.isFilling) return
  whenIdle(() => {
    if (opened !== view.opened) return
    const log = $('log'), fromEnd = log.scrollHeight - log.scrollTop
    $('turns').prepend(...messages.splice(-MORE).map(message => turnOf(message)))
    log.scrollTop = log.scrollHeight - fromEnd
    fill(messages, opened)
  })
}

/** Adds the turns of the open thread that came from elsewhere: another tab, another device, a program. */
async function sync() {
  const { thread: id, opened } = view
  if (!id || view.isFilling || (view.answer && !view.answer.call)) return
  const { messages } = await get(`/threads/${id}.json`)
  if (opened !== view.opened || id !== view.thread) return
  if (view.answer && !view.answer.call) return      // asked meanwhile: which of the answers it is, is not known yet
  const shown = new Map([...$('turns').querySelectorAll('.answer')].map(turn => [turn.dataset.call, turn]))
  let place = null, asked = null
  for (const message of messages) {
    if (message.role === 'user') {
      asked = message
      continue
    }
    const known = shown.get(message.call)
    const turn = known ?? turnOf(message)
    if (!known && place) place.after(turn)
    else if (!known) $('turns').prepend(turn)
    if (asked && !turn.previousElementSibling?.classList.contains('user')) turn.before(question(asked))
    if (!known) view.more?.remove()
    place = turn
    asked = null
  }
  const last = messages.at(-1)
  if (last?.role === 'assistant' && !shown.has(last.call)) follow.keep()
}

/** Sets or clears the id of the open thread. */
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

/** Draws the sidebar anew, and the open thread if it has changed. Returns the threads that are loaded. */
async function refresh() {
  try {
    const running = new Set([...live.values()].map(answer => answer.thread))
    const [threads, me] = await Promise.all([side.draw(view.thread, running), side.drawMe()])
    Object.assign(limits, me.file_limits)
    showProblem(me.problem)
    const current = threads.find(thread => thread.id === view.thread)
    if (!current) return threads
    entitle(current.title)
    if (!view.answer) spend(current.cost_usd - view.cost)
    if (current.updated > view.updated) {
      const isNew = !view.updated                   // a thread that starts here has no other turns
      view.updated = current.updated
      if (!isNew) await sync()
    }
    return threads
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    if (failure.status === 401) signIn()
    if (failure.error.class === 'configuration_error') showProblem(failure.message)
    return []                                       // the next refresh draws it
  }
}

/** Shows why the server cannot answer at all, before anybody asks. */
function showProblem(text) {
  if ($('problem').textContent !== text) $('problem').textContent = text
  $('problem').hidden = !text
}

function go(id) {
  history.pushState(null, '', id ? `/t/${id}` : '/')
  return open(id)
}

/** Follows a change that another tab made. */
function applyChange({ thread, isDeleted }) {
  if (isDeleted) {
    side.drop(thread)
    if (thread === view.thread) showMissing(thread, { status: 404 })
  } else refresh().then(() => thread === view.thread && sync()).catch(ignoreFailure)
}

function ignoreFailure(failure) {
  if (!(failure instanceof Failure)) throw failure
}

/** Opens or closes the sidebar, which is a drawer on a phone. Returns true if that changed anything. */
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
  jobs.setUp()
  keys.setUp({ close: () => drawer(false), stop, fresh: () => go(''), focus: composer.focus })
  addEventListener('popstate', () => open(here()))
  matchMedia('(min-width: 48rem)').addEventListener('change', () => drawer(false))
  $('menu').addEventListener('click', () => drawer(true))
  $('scrim').addEventListener('click', () => drawer(false))
  $('new').addEventListener('click', () => go(''))
  $('shortcuts').addEventListener('click', () => $('help').showModal())
  $('forget').addEventListener('click', () => {
    const { thread, title } = view
    side.confirmRemoval({ id: thread, title }, () => {
      announceChange(thread, { isDeleted: true })
      go('')
      refresh()
    })
  })
  onChange(applyChange)
  const refreshIfVisible = () => { if (document.visibilityState === 'visible') refresh() }
  document.addEventListener('visibilitychange', refreshIfVisible)
  setInterval(refreshIfVisible, REFRESH_INTERVAL_MS)
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
  if (models instanceof Error && $('problem').hidden) $('trouble').append(notice(models.message, { bad: true }))
}

listenToPage()
refresh()
const ready = begin()                               // questions wait for it
