// The turns of the log: questions, and answers that may still be growing.
import { copy } from './clipboard.js'
import { $, node, say } from './dom.js'
import { follow } from './follow.js'
import { StreamingMarkdown, render } from './markdown.js'
import { countdown, inWords, Ticker } from './ticker.js'
import { count, exact, money, seconds, size } from './words.js'

/** States of an answer for which the server has no text. */
const STATES = { reading: 'Reading', thinking: 'Thinking', searching: 'Searching the web', writing: 'Writing', going: 'Continuing' }
const WAITING = 'Waiting for the first word'
const SERVER_ENDED = 'The server ended before the answer was finished.'   // as the server keeps it
const BUDGET_CUT = 'it reached what the budget allows.'                     // as the engine writes it
const NOT_BEGUN = 'The server stopped before the answer began. Ask again.'
const INTERRUPTED = 'The server stopped before this answer was complete. What was saved is above.'

/** A file's name and size, with a button or link. */
export const chip = (file, action = null) => node('li', { className: 'file', title: file.name },
  node('span', { textContent: file.name }),
  file.size == null ? null : node('span', { className: 'num', textContent: size(file.size) }),
  action)

/** A notice in the log: amber, or red for an error. */
export function notice(text, { bad = false, action = null } = {}) {
  const button = action && stepButton(action.label, action.run)
  return node('div', { className: bad ? 'note bad' : 'note' }, node('p', { textContent: text }), button)
}

/** A button for the next step. Its note goes when it is pressed; who has no mouse would lose the focus with it. */
function stepButton(label, run) {
  const button = node('button', { type: 'button', textContent: label })
  button.addEventListener('click', () => {
    if (button.matches(':focus-visible')) $('question').focus()
    run()
  })
  return button
}

export function question({ text, files = [] }) {
  const turn = node('li', { className: 'turn user' }, node('h2', { className: 'sr', textContent: 'You' }))
  if (files.length) turn.append(node('ul', { className: 'files', ariaLabel: 'Files' }, ...files.map(file => chip(file))))
  if (text) turn.append(node('div', { className: 'said', dir: 'auto', textContent: text }))
  return turn
}

/** An answer: its text, a line on its state, notes, and its account. */
export class Answer {
  thread = ''
  cost = 0
  text = ''
  complete = false
  failed = null
  stopReason = ''
  isBudgetUsedUp = false
  #call = ''
  #markdown = null
  #isStale = false                                  // the text comes again from its start
  #ticker = new Ticker()

  /** `modelName(id)` returns the display name of a model. */
  constructor(modelName) {
    this.modelName = modelName
    this.read = node('div', { className: 'read' })
    this.doing = node('p', { className: 'doing', hidden: true }, node('span', { className: 'pulse' }), node('span'))
    this.notes = node('div', { className: 'notes' })
    this.account = node('div', { className: 'account', hidden: true })
    this.root = node('li', { className: 'turn answer' },
      node('h2', { className: 'sr', textContent: 'Claude' }), this.read, this.doing, this.notes, this.account)
  }

  get call() { return this.#call }
  set call(id) {
    this.#call = id
    this.root.dataset.call = id
  }

  /** Shows an answer that has ended. */
  show({ call, text, usage, incomplete, output_files: outputs = [] }) {
    this.call = call
    this.text = text
    render(this.read, text)
    this.#addFiles(outputs)
    if (usage) this.bill(usage)
    this.stopReason = usage?.stop_reason ?? ''
    this.complete = !incomplete
    this.isBudgetUsedUp = Boolean(incomplete?.startsWith(BUDGET_CUT))
    if (incomplete) this.note(text ? cut(incomplete) : NOT_BEGUN, { announce: false })
    return this
  }

  /** Prepares for the text, which comes piece by piece. */
  begin() {
    this.root.setAttribute('aria-busy', 'true')
    this.text = ''
    this.read.replaceChildren()
    this.#markdown = new StreamingMarkdown(this.read)
    this.#do(WAITING)
  }

  /** Applies an event of the stream. */
  apply({ event, data }) {
    switch (event) {
      case 'anew': this.#isStale = true; return     // the old text stays until the new one comes
      case 'message': return this.#write(data)
      case 'status': return this.#status(JSON.parse(data))
      case 'usage': return this.bill(JSON.parse(data))
      case 'error': return this.fail(JSON.parse(data))
      case 'done': return this.#done(JSON.parse(data))
    }
  }

  stop() {
    this.#do('Stopping')
  }

  note(text, { announce = true, ...options } = {}) {
    this.#ticker.stop()
    this.notes.replaceChildren(...text ? [notice(text, options)] : [])
    if (text && announce) say(text)
  }

  /** Ends with the server's error object. A call that the reader stopped has not failed. */
  fail(error) {
    this.#replaceStale()
    this.#do('')
    if (error.kind === 'interrupted' && this.text) return this.note(INTERRUPTED)   // and can be continued
    this.failed = error
    if (error.kind === 'cancelled') this.note('Stopped before the first word.')
    else if (error.approval) this.note(priceOf(error))
    else this.note(error.text, { bad: true })
  }

  /** Adds a button to the note. */
  offer(label, run) {
    const button = stepButton(label, run)
    this.notes.firstChild?.append(button)
    return button
  }

  bill(usage) {
    this.cost = usage.cost_usd ?? 0
    this.account.hidden = !usage.model              // it ended before a model was asked
    this.account.replaceChildren(...parts(usage, this.modelName(usage.model)), ...this.text ? [node('button', {
      type: 'button', className: 'quiet', textContent: 'Copy', ariaLabel: 'Copy the answer as Markdown',
      onclick: event => copy(event.currentTarget, this.text),
    })] : [])
  }

  /** Lists the files that code has created, as downloads. */
  #addFiles(files) {
    if (!files.length) return
    this.account.before(node('ul', { className: 'files created', ariaLabel: 'Created files' }, ...files.map(file => node('li', { className: 'file' },
      node('a', { href: `/files/${encodeURIComponent(file.id)}`, download: file.name, textContent: file.name }),
      file.bytes == null ? null : node('span', { className: 'num', textContent: size(file.bytes) })))))
  }

  /** Ends the answer. */
  end() {
    this.#replaceStale()
    this.#markdown?.end()
    this.#markdown = null
    this.#do('')
    this.root.removeAttribute('aria-busy')
  }

  /** Removes the note of a wait that is over. */
  clearWait() {
    if (!this.failed && this.notes.firstChild) this.note('')
  }

  #replaceStale() {
    if (!this.#isStale) return
    this.#isStale = false
    this.#markdown?.end()
    this.begin()
  }

  #write(text) {
    this.#replaceStale()
    this.text += text
    this.#markdown.write(text)
    this.#do('')
    this.clearWait()
  }

  #status({ state, text, until }) {
    if (state === 'waiting' && text) {
      this.#do('')
      this.note(sentence(text))
      const draw = countdown(sentence(text), until), shown = this.notes.querySelector('p')
      this.#ticker.start(() => { shown.textContent = draw() })
      return
    }
    this.clearWait()
    this.#do(state === 'writing' && this.text ? '' : sentence(text) || STATES[state] || (this.text ? '' : WAITING))
    if (!this.doing.hidden) follow.keep()
  }

  /** Shows a line on what happens before there is more text, with its seconds; none if `text` is empty. */
  #do(text) {
    this.#ticker.stop()
    this.doing.hidden = !text
    if (!text) return
    const since = Date.now()
    this.#ticker.start(() => {
      const elapsed = Math.floor((Date.now() - since) / 1000)
      this.doing.lastChild.textContent = elapsed ? `${text} · ${inWords(elapsed)}` : text
    })
  }

  #done({ complete, incomplete, stop_reason: reason, notes = [], files = [] }) {
    this.complete = complete
    this.isBudgetUsedUp = Boolean(incomplete?.startsWith(BUDGET_CUT))
    this.stopReason = reason ?? this.stopReason
    this.#addFiles(files)
    const texts = [incomplete && cut(incomplete), ...notes].filter(Boolean)
    if (texts.length) this.note(texts.join(' '), { announce: false })
  }
}

/** The reason why an answer is incomplete, without the advice for programs: the page has a button instead. */
const cut = incomplete => incomplete === SERVER_ENDED ? INTERRUPTED : `This answer is not complete: ${incomplete.split(/(?<=\.) /)[0]}`
/** The question whether an answer may cost so much. */
const priceOf = ({ highest_usd: usd }) =>
  `${usd == null ? 'The price of this answer is unknown.' : `This answer may cost up to ${money(usd)}.`} Send it?`
const sentence = text => text.charAt(0).toUpperCase() + text.slice(1)

function parts(usage, model) {
  const cached = usage.cache_read_input_tokens, written = usage.cache_creation_input_tokens
  const fresh = usage.input_tokens + written
  const thought = usage.thinking_tokens ? `${exact(usage.thinking_tokens)} of them for thinking` : ''
  const plural = (n, one, many) => n ? part(`${n} ${n === 1 ? one : many}`) : null
  return [
    node('span', { textContent: model, title: usage.model }),
    part(`${count(fresh + cached)} in`, `${exact(fresh)} fresh, ${exact(cached)} from the cache`),
    part(`${count(usage.output_tokens)} out`, thought),
    part(usage.cost_usd == null ? 'price unknown' : money(usage.cost_usd), usage.estimated ? 'estimated' : ''),
    usage.duration_s === 0 ? null : part(seconds(usage.duration_s), usage.ttft_s == null ? '' : `first word after ${seconds(usage.ttft_s)}`),
    plural(usage.web_searches, 'search', 'searches'),
    plural(usage.retries, 'retry', 'retries'),
    ...terms(usage).map(text => part(text)),
  ].filter(Boolean)
}

/** The terms of service that are not the default; they change the price. */
const terms = ({ speed, service_tier: tier, inference_geo: geo }) => [
  speed === 'fast' && 'fast mode',
  tier && tier !== 'standard' && `${tier} tier`,
  geo && geo !== 'global' && geo !== 'not_available' && `inference in ${geo}`,
].filter(Boolean)

const part = (text, title = '') => node('span', { className: 'num', textContent: text, title })
