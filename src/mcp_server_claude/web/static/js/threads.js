// The sidebar: earlier threads, the user, and what was spent today.
import { get, getPage, remove } from './api.js'
import { $, node, say } from './dom.js'
import { money, when } from './words.js'

const FIRST_PAGE = '/threads.json'

/** The threads that are loaded, the latest first, and the address of the next page. */
const list = { threads: [], next: '' }
let open = ''
let answering = new Set()

/** Loads and draws the latest threads; `current` is the open one, `running` those with an answer under way. Returns all that are loaded. */
export async function draw(current, running) {
  const { items, next } = await getPage(FIRST_PAGE)
  open = current
  answering = running
  const last = items.at(-1), latest = new Set(items.map(({ id }) => id))
  const older = next ? list.threads.filter(thread => !latest.has(thread.id) && isOlder(thread, last)) : []
  if (!older.length) list.next = next
  list.threads = [...items, ...older]
  drawList()
  return list.threads
}

/** Marks the open thread. */
export function mark(current) {
  open = current
  for (const link of $('threads').querySelectorAll('a')) {
    link.ariaCurrent = link.dataset.thread === current ? 'page' : null
  }
}

/** Takes a deleted thread off the list. */
export function drop(id) {
  list.threads = list.threads.filter(thread => thread.id !== id)
  drawList()
}

/** Loads and draws the user and the budget. Returns the server's answer. */
export async function drawMe() {
  const me = await get('/me.json')
  $('who').textContent = me.name
  const spent = money(me.spent_today_usd, 2), isLimited = me.budget_usd != null
  $('spent').textContent = isLimited ? `${spent} of ${money(me.budget_usd, 2)} today` : `${spent} today`
  $('spent').title = isLimited ? `The budget resets at ${clock(me.resets_at)}.` : ''
  $('budget').hidden = !isLimited
  if (isLimited) $('budget').value = me.budget_usd ? Math.min(1, me.spent_today_usd / me.budget_usd) : 1
  $('signout').hidden = !me.signed_in
  return me
}

/** Asks for confirmation and deletes a thread; then calls `deleted()`. */
export function confirmRemoval({ id, title }, deleted) {
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
    drop(id)
    deleted()
  }
  dialog.showModal()
}

function drawList() {
  const groups = new Map()
  for (const thread of list.threads) {
    const name = when(thread.updated)
    groups.set(name, [...groups.get(name) ?? [], thread])
  }
  const focus = $('threads').contains(document.activeElement) ? document.activeElement : null
  const more = list.next && node('button', { type: 'button', id: 'more-threads', className: 'quiet', textContent: 'Show earlier threads', onclick: loadMore })
  $('threads').replaceChildren(...[...groups].flatMap(([name, group]) => [
    node('h2', { textContent: name }),
    node('ul', {}, ...group.map(thread => node('li', {}, entry(thread, answering.has(thread.id))))),
  ]), ...more ? [more] : [])
  mark(open)
  if (focus?.id) $(focus.id)?.focus()
  else if (focus) linkTo(focus.dataset.thread)?.focus()
}

async function loadMore() {
  try {
    const { items, next } = await getPage(list.next)
    const loaded = new Set(list.threads.map(({ id }) => id))
    const added = items.filter(({ id }) => !loaded.has(id))
    list.next = next
    list.threads = [...list.threads, ...added]
    drawList()
    linkTo(added[0]?.id)?.focus()
    say(`${added.length} more threads.`)
  } catch (failure) {
    say(failure.message)
  }
}

const linkTo = id => [...$('threads').querySelectorAll('a')].find(link => link.dataset.thread === id)

/** True for a thread that the list has after another one. */
const isOlder = (thread, other) =>
  thread.updated < other.updated || (thread.updated === other.updated && thread.id > other.id)

function entry({ id, title, cost_usd: cost }, isRunning) {
  const link = node('a', { href: `/t/${id}`, title },
    node('span', { dir: 'auto', textContent: title || 'Untitled' }),
    isRunning ? node('span', { className: 'running', title: 'An answer is being written', role: 'img', ariaLabel: 'answering' }) : null,
    cost ? node('span', { className: 'num', textContent: money(cost, 2) }) : null)
  link.dataset.thread = id
  return link
}

const clock = moment => new Date(moment).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
