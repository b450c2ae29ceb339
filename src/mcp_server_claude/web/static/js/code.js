// A code block: the language, a button that copies, and the code. Its text appears at once, its colours when there is time.
import { copy } from './clipboard.js'
import { node } from './dom.js'

const LONGEST = 60_000                              // characters; what is longer stays plain
const OFTEN_MS = 120, REST = 10                     // colours at most so often, and at most a tenth of the time

let highlighter = null
const waiting = new Set()

async function load() {
  const { default: hljs } = await import('../vendor/highlight.js')
  hljs.configure({ __emitter: NodeEmitter, classPrefix: 'hl-' })   // lowlight's hook: nodes instead of HTML
  highlighter = hljs
  for (const block of waiting) block.colour()
  waiting.clear()
}

export class CodeBlock {
  #painted = null                                   // the text whose colours are shown
  #ready = 0
  #timer = 0

  /** `closed` is false until the end of the fence has arrived. */
  constructor({ content, info = '', closed = true }) {
    this.text = content.replace(/\n$/, '')
    this.language = info.trim().split(/\s+/)[0]
    this.closed = closed
    this.name = node('span', { textContent: this.language || 'text' })
    this.code = node('code', {}, this.text)
    this.root = node('figure', { className: 'code' },
      node('figcaption', {}, this.name, node('button', {
        type: 'button', className: 'quiet', textContent: 'Copy', ariaLabel: 'Copy this code',
        onclick: event => copy(event.currentTarget, this.text),
      })),
      node('pre', { tabIndex: 0 }, this.code))
    this.root.codeBlock = this
  }

  /** Applies a newer parse of the same block. */
  update({ text, language, closed }) {
    if (language !== this.language) {
      this.language = language
      this.name.textContent = language || 'text'
      this.#painted = null
    }
    if (text.startsWith(this.text)) this.#append(text.slice(this.text.length))
    else this.code.replaceChildren(text)
    this.text = text
    this.closed = closed
  }

  /** Colours the rest of the code, now or after the pause that the last run requires. */
  colour() {
    if (this.#painted === this.text || this.#timer || !this.language || this.text.length > LONGEST) return
    if (!highlighter) {
      if (!waiting.size) load().catch(() => waiting.clear())   // without colours, then
      waiting.add(this)
      return
    }
    const wait = this.closed ? 0 : this.#ready - performance.now()
    if (wait > 0) this.#timer = setTimeout(() => { this.#timer = 0; this.colour() }, wait)
    else if (highlighter.getLanguage(this.language)) this.#paint()
  }

  #append(text) {
    if (!text) return
    const last = this.code.lastChild
    if (last?.nodeType === Node.TEXT_NODE) last.appendData(text)
    else this.code.append(text)
  }

  #paint() {
    const began = performance.now()
    const { _emitter } = highlighter.highlight(this.text, { language: this.language, ignoreIllegals: true })
    if (_emitter.root.textContent === this.text) this.code.replaceChildren(_emitter.root)   // it must not change the code
    this.#painted = this.text
    this.#ready = performance.now() + Math.max(OFTEN_MS, REST * (performance.now() - began))
  }
}

/** The emitter that highlight.js calls: creates spans with classes. */
class NodeEmitter {
  constructor() {
    this.root = document.createDocumentFragment()
    this.open = [this.root]
  }

  addText(text) { if (text) this.open.at(-1).append(text) }
  startScope(name) { this.openNode(name) }
  endScope() { this.closeNode() }
  openNode(name) {
    const [first, ...rest] = String(name).split('.')
    const classes = [`hl-${first}`, ...rest.map((part, n) => part + '_'.repeat(n + 1))]
    const span = node('span', { className: classes.join(' ') })
    this.open.at(-1).append(span)
    this.open.push(span)
  }

  closeNode() { this.open.pop() }
  __addSublanguage(other) { this.open.at(-1).append(other.root) }
  finalize() {}
  toHTML() { return '' }
}
