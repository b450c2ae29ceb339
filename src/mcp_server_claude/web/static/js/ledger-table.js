// Tables, which contain every number of the charts above them.
import { node } from './dom.js'

const FIRST = 8

/**
 * Fills a table. `columns` are `[head, row => text or element]`; the first cell of a row is its head. With `short`, the
 * rows after the first `FIRST` are shown by a button.
 */
export function fill(table, caption, columns, rows, { hidden = false, short = false } = {}) {
  const few = short && rows.length > FIRST + 1
  const lines = rows.map((row, place) => line(columns, row, few && place >= FIRST))
  table.replaceChildren(
    node('caption', { className: hidden ? 'sr' : '', textContent: caption }),
    node('thead', {}, node('tr', {}, ...columns.map(([head]) => node('th', { scope: 'col', textContent: head })))),
    node('tbody', {}, ...lines),
  )
  table.parentElement.querySelector('.more')?.remove()
  if (few) table.after(more(lines))
}

function line(columns, row, hidden) {
  return node('tr', { hidden }, ...columns.map(([, of], place) => {
    const content = of(row)
    const cell = place ? node('td') : node('th', { scope: 'row' })
    if (content instanceof Element && content.className === 'share') cell.className = 'part'
    cell.append(content)
    return cell
  }))
}

function more(lines) {
  const button = node('button', { type: 'button', className: 'quiet more', textContent: `Show all ${lines.length}` })
  button.onclick = () => {
    for (const each of lines) each.hidden = false
    lines[FIRST].querySelector('a')?.focus()
    button.remove()
  }
  return button
}
