// The events of one call, over as many connections as it takes.
import { events } from './sse.js'
import { Failure, post, request } from './api.js'

const FIRST_PAUSE_MS = 400, LONGEST_PAUSE_MS = 4_000, GIVE_UP_MS = 180_000
const RESTART_STATUSES = new Set([502, 503, 504])   // of a proxy while the server restarts
const TEMPORARY_STATUSES = new Set([0, 429, ...RESTART_STATUSES])

/**
 * Yields the events of a call, `done` last; `anew` before all of its text comes again. `body` asks a new question, `id`
 * reads a call that is running. `onDrop({ drops, isRestart })` is called after each lost connection; `drops` counts
 * those in a row.
 * Throws a Failure when the rest cannot be read.
 */
export async function* listen({ body, id = '' }, onDrop = () => {}) {
  let last = '', drops = 0, since = 0
  for (;;) {
    let isRestart = false
    try {
      const response = id ? await resume(id, last) : await post('/chat', body, 'text/event-stream')
      id ||= response.headers.get('Call-Id') ?? ''
      for await (const event of events(response.body)) {
        if (event.event === 'error') throwIfResumable(JSON.parse(event.data))
        if (event.event !== 'start') drops = 0
        if (event.id) last = event.id
        yield event
        if (event.event === 'done') return
      }
    } catch (problem) {
      if (problem instanceof TypeError) { /* the connection was lost */ }
      else if (!(problem instanceof Failure)) throw problem
      else if (problem.error.kind === 'truncated' && last) {
        last = ''
        yield { event: 'anew' }
        continue
      } else if (!id || !TEMPORARY_STATUSES.has(problem.status)) throw problem
      else isRestart = problem.error.kind === 'shutdown' || RESTART_STATUSES.has(problem.status)
    }
    if (!id) throw failure('The connection was lost before the answer began.', { retryable: true })
    if (!drops++) since = Date.now()
    if (Date.now() - since > GIVE_UP_MS) throw failure('The connection is lost. Reload the page to read the rest.')
    onDrop({ drops, isRestart })
    await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 1.7 ** (drops - 1)))
  }
}

const resume = (id, last) => request(`/chat/${id}`, { headers: last ? { 'Last-Event-ID': last } : {} })

const failure = (text, { retryable = false } = {}) => new Failure({ text, kind: 'lost', retryable })

/**
 * Throws an error that does not end the answer: after `shutdown` the next server has the rest; after `truncated` the
 * text that was saved before a crash, which may be less than was read here, is read from its start.
 */
function throwIfResumable(error) {
  if (error.kind === 'shutdown' || error.kind === 'truncated') throw new Failure(error)
}

/** Waits for a number of milliseconds, or until the network is back. */
const pause = ms => new Promise(done => {
  const listening = new AbortController()
  const end = () => { listening.abort(); done() }
  setTimeout(end, ms)
  addEventListener('online', end, { signal: listening.signal })
})
