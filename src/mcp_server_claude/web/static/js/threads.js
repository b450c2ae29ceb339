// The side: earlier threads, who one is, what was spent today.
import { get, remove } from './api.js'
import { $, node } from './dom.js'
import { money, when } from './words.js'

/** Draws the list anew; `current` is the open thread, `running` those with an answer under way. Returns the list. */
export async function draw(current, running) {
  const threads = await get('/threads.json')
  const groups = new Map()
  for (const thread of threads) {
    const name = when(thread.updated)
    groups.set(name, [...groups.get(name) ?? [], thread])
  }
  const focused = $('threads').contains(document.activeElement) ? document.activeElement.href : null
  $('threads').replaceChildren(...[...groups].flatMap(([name, group]) => [
    node('h2', { textContent: name }),
    node('ul', {}, ...group.map(thread => node('li', {}, entry(thread, running.has(thread.id))))),
  ]))
  mark(current)
  if (focused) [...$('threads').querySelectorAll('a')].find(link => link.href === focused)?.focus()
  return threads
}

/** Shows which thread is open. */
export function mark(current) {
  for (const link of $('threads').querySelectorAll('a')) {
    if (link.dataset.thread === current) link.ariaCurrent = 'page'
    else link.ariaCurrent = null
  }
}

export async function drawMe() {
  const me = await get('/me.json')
  $('who').textContent = me.name
  const spent = money(me.spent_today_usd, 2), limited = me.budget_usd != null
  $('spent').textContent = limited ? `${spent} of ${money(me.budget_usd, 2)} today` : `${spent} today`
  $('spent').title = limited ? `The day ends at ${clock(me.resets_at)}.` : ''
  $('budget').hidden = !limited
  if (limited) $('budget').value = me.budget_usd ? Math.min(1, me.spent_today_usd / me.budget_usd) : 1
  $('signout').hidden = !me.signed_in
}

/** Asks whether a thread shall go, and deletes it; `gone()` follows. */
export function confirmRemoval({ id, title }, gone) {
  const dialog = $('removal')
  $('removal-title').textContent = title
  $('removal-fault').textContent = ''
  $('remove').onclick = async () => {
    try {
      await remove(`/threads/${id}`)
    } catch (failure) {
      $('removal-fault').textContent = failure.message
      return
    }
    dialog.close()
    gone()
  }
  dialog.showModal()
}

function entry({ id, title, cost_usd: cost }, running) {
  const link = node('a', { href: `/t/${id}`, title },
    node('span', { dir: 'auto', textContent: title || 'Untitled' }),
    running ? node('span', { className: 'running', title: 'An answer is being written', role: 'img', ariaLabel: 'answering' }) : null,
    cost ? node('span', { className: 'num', textContent: money(cost, 2) }) : null)
  link.dataset.thread = id
  return link
}

const clock = moment => new Date(moment).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
