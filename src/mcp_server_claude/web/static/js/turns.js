// What stands in the log: a question, and an answer that may still be growing.
import { copy } from './clipboard.js'
import { node, say } from './dom.js'
import { follow } from './follow.js'
import { StreamingMarkdown, render } from './markdown.js'
import { count, exact, money, seconds, size } from './words.js'

/** What an answer is waiting for, where the server has no words for it. */
const STATES = { reading: 'Reading', thinking: 'Thinking', searching: 'Searching the web', writing: 'Writing' }

/** A file's name and size, with what can be done with it. */
export const chip = (file, action = null) => node('li', { className: 'file', title: file.name },
  node('span', { textContent: file.name }),
  file.size == null ? null : node('span', { className: 'num', textContent: size(file.size) }),
  action)

/** Something in the log that is to be noticed: amber, or red where it is a fault. */
export function notice(text, { bad = false, action = null } = {}) {
  const button = action && node('button', { type: 'button', textContent: action.label, onclick: action.run })
  return node('div', { className: bad ? 'note bad' : 'note' }, node('p', { textContent: text }), button)
}

export function question({ text, files = [] }) {
  const turn = node('li', { className: 'turn user' }, node('h2', { className: 'sr', textContent: 'You' }))
  if (files.length) turn.append(node('ul', { className: 'files', ariaLabel: 'Files' }, ...files.map(file => chip(file))))
  if (text) turn.append(node('div', { className: 'said', dir: 'auto', textContent: text }))
  return turn
}

/** An answer: the text, a line on what it is doing, notes, and its account. */
export class Answer {
  call = ''
  thread = ''
  cost = 0
  text = ''
  complete = false
  failed = null
  #markdown = null

  /** `modelName(id)` is what people call a model. */
  constructor(modelName) {
    this.modelName = modelName
    this.read = node('div', { className: 'read' })
    this.doing = node('p', { className: 'doing', hidden: true }, node('span', { className: 'pulse' }), node('span'))
    this.notes = node('div', { className: 'notes' })
    this.account = node('div', { className: 'account', hidden: true })
    this.root = node('li', { className: 'turn answer' },
      node('h2', { className: 'sr', textContent: 'Claude' }), this.read, this.doing, this.notes, this.account)
  }

  /** An answer that was whole long ago. */
  show({ text, usage, incomplete, made = [] }) {
    this.text = text
    render(this.read, text)
    this.hand(made)
    if (usage) this.bill(usage)
    this.complete = !incomplete
    if (incomplete) this.note(cut(incomplete), { announce: false })
    return this
  }

  /** The text begins to come. */
  begin() {
    this.root.setAttribute('aria-busy', 'true')
    this.text = ''
    this.read.replaceChildren()
    this.#markdown = new StreamingMarkdown(this.read)
    this.do('Waiting for the first word')
  }

  /** Takes in an event of the stream. */
  hear({ event, data }) {
    switch (event) {
      case 'anew': return this.#anew()
      case 'message': return this.#write(data)
      case 'status': return this.#status(JSON.parse(data))
      case 'usage': return this.bill(JSON.parse(data))
      case 'error': return this.fail(JSON.parse(data))
      case 'done': return this.#done(JSON.parse(data))
    }
  }

  /** The line on what happens while there is nothing to read; none when `text` is empty. */
  do(text) {
    this.doing.hidden = !text
    this.doing.lastChild.textContent = text
  }

  note(text, { announce = true, ...manner } = {}) {
    this.notes.replaceChildren(...text ? [notice(text, manner)] : [])
    if (text && announce) say(text)
  }

  /** The call failed; `failure` is the server's error object. That a reader stopped it is not a fault. */
  fail(failure) {
    this.failed = failure
    this.do('')
    if (failure.kind === 'cancelled') this.note('Stopped before the first word.')
    else this.note(failure.text, { bad: true })
  }

  /** Something to do about how it ended. */
  offer(label, run) {
    const button = node('button', { type: 'button', textContent: label, onclick: run })
    this.notes.firstChild?.append(button)
    return button
  }

  bill(usage) {
    this.cost = usage.cost_usd ?? 0
    this.account.hidden = !usage.model              // it ended before it came to a model
    this.account.replaceChildren(...parts(usage, this.modelName(usage.model)), ...this.text ? [node('button', {
      type: 'button', className: 'quiet', textContent: 'Copy', ariaLabel: 'Copy the answer as Markdown',
      onclick: event => copy(event.currentTarget, this.text),
    })] : [])
  }

  /** Files that code has made: links to save them by. */
  hand(files) {
    if (!files.length) return
    this.account.before(node('ul', { className: 'files made', ariaLabel: 'Files made' }, ...files.map(file => node('li', { className: 'file' },
      node('a', { href: `/files/${encodeURIComponent(file.id)}`, download: file.name, textContent: file.name }),
      file.bytes == null ? null : node('span', { className: 'num', textContent: size(file.bytes) })))))
  }

  /** Nothing more will come. */
  end() {
    this.#markdown?.end()
    this.#markdown = null
    this.do('')
    this.root.removeAttribute('aria-busy')
  }

  #anew() {
    this.#markdown.end()
    this.begin()
  }

  #write(text) {
    this.text += text
    this.#markdown.write(text)
    this.do('')
    this.calm()
  }

  #status({ state, text }) {
    if (state === 'waiting' && text) {
      this.do('')
      this.note(sentence(text))
      return
    }
    this.calm()
    const nothing = this.text ? '' : 'Waiting for the first word'
    this.do(state === 'writing' && this.text ? '' : sentence(text) || STATES[state] || nothing)
    if (!this.doing.hidden) follow.keep()
  }

  /** It goes on after a wait. */
  calm() {
    if (!this.failed && this.notes.firstChild) this.note('')
  }

  #done({ complete, incomplete, notes = [], files = [] }) {
    this.complete = complete
    this.hand(files)
    const said = [incomplete && cut(incomplete), ...notes].filter(Boolean)
    if (said.length) this.note(said.join(' '), { announce: false })
  }
}

/** Why an answer is not complete, without what a program could do about it: here there is a button. */
const cut = incomplete => `This answer is not complete: ${incomplete.split(/(?<=\.) /)[0]}`
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
    part(seconds(usage.duration_s), usage.ttft_s == null ? '' : `first word after ${seconds(usage.ttft_s)}`),
    plural(usage.web_searches, 'search', 'searches'),
    plural(usage.retries, 'retry', 'retries'),
  ].filter(Boolean)
}

const part = (text, title = '') => node('span', { className: 'num', textContent: text, title })
