// Streaming Markdown: text comes in pieces, nodes go out, and finished blocks are never parsed again.
import MarkdownIt from '../vendor/markdown-it.js'
import remend from '../vendor/remend.js'
import { morph } from './morph.js'
import { Outline, build } from './nodes.js'
import { node } from './dom.js'

const NESTED = 40
const md = new MarkdownIt({ html: false, linkify: true, maxNesting: NESTED })
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false })
md.validateLink = () => true                        // `address` in nodes.js judges, once, what becomes a link

const REPAIR = { linkMode: 'text-only', katex: false, htmlTags: false }
const FENCE = /^ {0,3}(`{3,}|~{3,})/
const BARE_MARKS = [                                // heading, emphasis, the head of a table whose second line has not come
  /(^|\n)#{1,6}[ \t]*$/,
  /(^|[\s(])[*_~]{1,3}$/,
  /(^|\n)\|[^\n]*(\n[|:\- ]*)?$/,
]
const REST = 5                                      // a draw is followed by so many times its own duration of rest

/**
 * A text under `root`, which grows with `write` until `end`.
 *
 * `tail` is the text that is not settled, `live` the element that shows it, `env` the link definitions so far.
 */
export class StreamingMarkdown {
  #root
  #onSettle
  #live = node('div', { className: 'live' })
  #outline = new Outline()
  #env = {}
  #text = ''
  #tail = ''
  #scanned = 0                                      // of the tail: where the search for settled blocks has been
  #afterCr = false
  #frame = 0
  #ready = 0                                        // when the next draw may be

  /** `onSettle()` is called with blocks that later text cannot change. */
  constructor(root, { onSettle = () => {} } = {}) {
    this.#root = root
    this.#onSettle = onSettle
    root.append(this.#live)
  }

  /** Adds text, and draws at the next frame; at once in a hidden tab, which has no frames. */
  write(piece) {
    const text = this.#lines(piece)
    this.#text += text
    this.#tail += text
    this.#frame ||= requestAnimationFrame(this.#tick)
    if (document.hidden) this.#tick()
  }

  /** Draws the text so far. */
  draw() {
    this.#settle()
    const fresh = node('div')
    const env = { references: { ...this.#env.references } }   // half a definition must not be remembered
    build(this.#parse(repaired(this.#tail), env), fresh, new Outline(this.#outline))
    this.#show(fresh)
  }

  /** Ends the text and draws it for the last time. */
  end() {
    cancelAnimationFrame(this.#frame)
    this.#frame = 0
    this.#settle()
    if (this.#hasDefinitions()) this.#restart()     // a definition may follow its use: all of it once more
    const fresh = node('div')
    build(this.#parse(this.#tail), fresh, this.#outline)
    this.#show(fresh)
    if (this.#live !== this.#root) this.#live.replaceWith(...this.#live.childNodes)
    this.#tail = this.#text = ''
    this.#onSettle()
  }

  /** A piece with line feeds as line ends, also if a CRLF is split between two pieces. */
  #lines(piece) {
    const rest = this.#afterCr && piece.startsWith('\n') ? piece.slice(1) : piece
    if (piece) this.#afterCr = piece.endsWith('\r')
    return rest.replace(/\r\n?/g, '\n')
  }

  #tick = () => {
    this.#frame = 0
    const now = performance.now()
    if (now < this.#ready) {
      this.#frame = requestAnimationFrame(this.#tick)
      return
    }
    this.draw()
    this.#ready = now + REST * (performance.now() - now)
  }

  #show(fresh) {
    morph(this.#live, fresh)
    for (const figure of this.#live.querySelectorAll('figure.code')) figure.codeBlock.colour()
  }

  #parse(text, env = this.#env) {
    const tokens = md.parse(text, env)
    if (isTooDeep(tokens)) return [{ type: 'text', content: text }]
    for (const token of tokens) if (token.type === 'fence') token.closed = isClosed(token, text)
    return tokens
  }

  /**
   * Takes out of the tail what is finished. A block is when a later one has begun on whole lines: block structure is
   * decided line by line, and what is closed is never opened again. Whole lines only, since `***` may be a rule or
   * become `***bold***`.
   */
  #settle() {
    const whole = this.#tail.lastIndexOf('\n') + 1
    if (whole <= this.#scanned) return
    this.#scanned = whole
    const text = this.#tail.slice(0, whole)
    const tokens = []
    md.block.parse(text, md, this.#env, tokens)
    if (isTooDeep(tokens)) return
    const last = tokens.findLast(token => token.level === 0 && token.nesting !== -1 && token.map)
    const end = last ? offset(text, last.map[0]) : 0
    if (end === 0) return
    const done = node('div')
    build(this.#parse(text.slice(0, end)), done, this.#outline)
    this.#show(done)
    this.#live.before(...this.#live.childNodes)
    this.#tail = this.#tail.slice(end)
    this.#scanned -= end
    this.#onSettle()
  }

  #hasDefinitions() {
    md.block.parse(this.#tail, md, this.#env, [])
    return Object.keys(this.#env.references ?? {}).length > 0
  }

  #restart() {
    this.#live.remove()
    this.#live = this.#root
    this.#tail = this.#text
    this.#outline = new Outline()
    this.#env = {}
  }
}

/** Draws a complete text. */
export function render(root, text) {
  const whole = new StreamingMarkdown(root)
  whole.write(text)
  whole.end()
}

/** True if blocks are nested so deeply that the parser has left out the rest of the text. */
const isTooDeep = tokens => tokens.some(token => token.nesting === 1 && token.level >= NESTED - 1)

/** A text that breaks off anywhere, with open marks closed, and without marks that have no content yet. */
function repaired(text) {
  if (FENCE.test(text)) return text
  return BARE_MARKS.reduce((rest, mark) => rest.replace(mark, '$1'), remend(text, REPAIR))
}

/** The index at which a line begins. */
function offset(text, line) {
  let at = 0
  for (let n = 0; n < line; n++) at = text.indexOf('\n', at) + 1
  return at
}

/** True if a fence's last line closes it; the parser accepts the end of the text as well. */
function isClosed({ map: [first, after], markup }, text) {
  const last = text.slice(offset(text, after - 1)).split('\n', 1)[0]
  return after - first > 1 && new RegExp(`^[ >\\t]*\\${markup[0]}{${markup.length},}\\s*$`).test(last)
}
