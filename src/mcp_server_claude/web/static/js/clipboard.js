// Copies text, also on pages without TLS, where browsers offer no clipboard API.
import { node, say } from './dom.js'

const SHOWN_MS = 1600

/** Copies text and confirms it on the button. */
export async function copy(button, text) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text)
    else selected(text)
  } catch {
    say('The browser does not let this page copy.')
    return
  }
  say('Copied.')
  button.textContent = 'Copied'
  setTimeout(() => { button.textContent = 'Copy' }, SHOWN_MS)
}

function selected(text) {
  const box = node('textarea', { className: 'sr', value: text })
  const focused = document.activeElement
  document.body.append(box)
  box.select()
  document.execCommand('copy')
  box.remove()
  focused?.focus()
}
