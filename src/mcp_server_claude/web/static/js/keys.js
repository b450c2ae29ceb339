// Keyboard shortcuts: chords and Escape, no single letters (WCAG 2.1.4).
import { $ } from './dom.js'

/** Binds the shortcuts to their actions. */
export function setUp({ close, stop, fresh, focus }) {
  document.addEventListener('keydown', event => {
    if (event.isComposing || document.querySelector('dialog[open]')) return
    const chord = event.ctrlKey || event.metaKey
    if (event.key === 'Escape') close() || stop()
    else if (chord && event.shiftKey && event.key.toLowerCase() === 'o') act(event, fresh)
    else if (chord && event.key === '/') act(event, focus)
    else if (event.altKey && event.key === 'ArrowUp') act(event, () => move(-1))
    else if (event.altKey && event.key === 'ArrowDown') act(event, () => move(1))
  })
}

function act(event, what) {
  event.preventDefault()
  what()
}

/** Focuses the turn before or after the focused one; the last turn if none has the focus. */
function move(step) {
  const turns = [...$('turns').children]
  const here = turns.indexOf(document.activeElement.closest('.turn'))
  const to = turns.at(here < 0 ? -1 : Math.max(0, Math.min(turns.length - 1, here + step)))
  if (!to) return
  to.tabIndex = -1
  to.focus({ preventScroll: true })
  to.scrollIntoView({ block: 'start' })
}
