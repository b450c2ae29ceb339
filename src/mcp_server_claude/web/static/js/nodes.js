// Nodes from the tokens of a Markdown parser. No string ever becomes HTML: every node is created by createElement and
// createTextNode, from a fixed set of elements. The page runs under `require-trusted-types-for 'script'` and
// `trusted-types 'none'`, so that a mistake would throw and not execute.
import { CodeBlock } from './code.js'
import { node } from './dom.js'

const TAGS = new Set(['p', 'blockquote', 'ul', 'ol', 'li', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'strong', 'em', 's'])
const DEEPEST = 60                                  // elements in each other, within a paragraph or around it
const LOWEST = 6                                    // of headings

/** An absolute http(s) or mailto address, or null: a relative one would point to this server. */
export function address(text) {
  let url
  try { url = new URL(text) } catch { return null }
  if (url.protocol === 'mailto:') return url.href
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return null
  return url.username || url.password ? null : url.href
}

/** The levels of a text's headings: in order, and below the h2 that names the speaker, whatever the text contains. */
export class Outline {
  constructor({ level = 0, rank = 2 } = {}) {
    this.level = level
    this.rank = rank
  }

  next(level) {
    const step = this.level ? Math.min(1, level - this.level) : 1
    this.rank = Math.max(3, Math.min(LOWEST, this.rank + step))
    this.level = level
    return this.rank
  }
}

/** Adds the nodes of `tokens` to `root`. */
export function build(tokens, root, outline) {
  const open = [root]
  for (const token of tokens) {
    const top = open.at(-1)
    if (token.type === 'inline') build(token.children, top, outline)
    else if (token.hidden) continue                 // the paragraphs of a tight list
    else if (token.nesting === -1) { if (open.length > 1) open.pop() }
    else if (token.nesting === 1) {
      const element = open.length < DEEPEST ? container(token, outline) : null   // thousands of * would nest as deep
      if (element) top.append(token.tag === 'table' ? region(element) : element)
      open.push(element ?? top)
    } else {
      const element = leaf(token)
      if (element) top.append(element)
    }
  }
}

function container(token, outline) {
  const way = token.block && token.level === 0 ? { dir: 'auto' } : {}   // from right to left, if it begins so
  switch (token.type) {
    case 'link_open': return link(token.attrGet('href'))
    case 'heading_open': return node(`h${outline.next(Number(token.tag[1]))}`, { className: token.tag, ...way })   // looks: the class
    case 'ordered_list_open': return node('ol', { start: Number(token.attrGet('start') ?? 1), ...way })
  }
  const element = node(TAGS.has(token.tag) ? token.tag : 'span', way)
  const align = /text-align:(left|center|right)/.exec(token.attrGet('style') ?? '')
  if (align) element.className = `align-${align[1]}`
  return element
}

function leaf(token) {
  switch (token.type) {
    case 'softbreak': return '\n'
    case 'hardbreak': return node('br')
    case 'hr': return node('hr')
    case 'code_inline': return node('code', {}, token.content)
    case 'fence': case 'code_block': return new CodeBlock(token).root
    case 'image': return picture(token)
    default: return token.content                   // text, and HTML: as text
  }
}

function link(text) {
  const href = address(text ?? '')
  return href ? node('a', { href, title: href, target: '_blank', rel: 'noopener noreferrer nofollow ugc' }) : node('span')
}

/** A picture as a link: loading it could tell its host about the conversation. */
function picture(token) {
  const element = link(token.attrGet('src'))
  element.className = 'picture'
  element.append(token.content || 'picture')
  return element
}

/** A region in which a wide table scrolls, also with the keyboard. */
function region(table) {
  return node('div', { className: 'table', tabIndex: 0, role: 'region', ariaLabel: 'Table' }, table)
}
