// One call, heard to its end over as many connections as it takes.
import { events } from './sse.js'
import { Failure, post, request } from './api.js'

const FIRST_PAUSE_MS = 400, LONGEST_PAUSE_MS = 10_000, PATIENCE_MS = 180_000
const PASSING = new Set([0, 429, 502, 503, 504])    // the server is away for a while: a new version, a proxy's hiccup

/**
 * What a call tells, `done` last; `anew` where all of it will be told once more. `body` asks a new question, `id` comes
 * back to a call that is under way. `lost` is told when the line has dropped and how often in a row.
 * Throws a Failure when nothing more can be heard.
 */
export async function* listen({ body, id = '' }, lost = () => {}) {
  let last = '', drops = 0, since = 0
  for (;;) {
    try {
      const response = id ? await again(id, last) : await post('/chat', body, 'text/event-stream')
      id ||= response.headers.get('Call-Id') ?? ''
      for await (const event of events(response.body)) {
        if (event.event === 'error') passOver(JSON.parse(event.data))
        if (event.event !== 'start') drops = 0
        if (event.id) last = event.id
        yield event
        if (event.event === 'done') return
      }
    } catch (problem) {
      if (problem instanceof TypeError) { /* the line dropped */ }
      else if (!(problem instanceof Failure)) throw problem
      else if (problem.told.kind === 'truncated' && last) {
        last = ''
        yield { event: 'anew' }
        continue
      } else if (!id || !PASSING.has(problem.status)) throw problem
    }
    if (!id) throw failure('The line dropped before the answer began.', { retryable: true })
    if (!drops++) since = Date.now()
    if (Date.now() - since > PATIENCE_MS) throw failure('The connection is lost. Reload the page to read the rest.')
    lost(drops)
    await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 1.7 ** (drops - 1)))
  }
}

const again = (id, last) => request(`/chat/${id}`, { headers: last ? { 'Last-Event-ID': last } : {} })

const failure = (text, { retryable = false } = {}) => new Failure({ text, kind: 'lost', retryable })

/**
 * Throws what is told as an error but ends no answer: the next server knows the rest (`shutdown`), or all that was
 * saved before one was killed, which may be less than was read here (`truncated`).
 */
function passOver(told) {
  if (told.kind === 'shutdown' || told.kind === 'truncated') throw new Failure(told)
}

/** So many milliseconds, or less if the network is back. */
const pause = ms => new Promise(done => {
  const over = new AbortController()
  const end = () => { over.abort(); done() }
  setTimeout(end, ms)
  addEventListener('online', end, { signal: over.signal })
})
