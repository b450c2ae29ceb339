// Changes one tree into another by touching only the differences, so that the selection, the focus and the scroll
// position of a code block survive a redraw.

/** Replaces the children of `old` by those of `fresh`, which loses them. */
export function morph(old, fresh) {
  let a = old.firstChild, b = fresh.firstChild
  while (b) {
    const nextA = a?.nextSibling ?? null, nextB = b.nextSibling
    if (!a) old.append(b)
    else if (!patch(a, b)) a.replaceWith(b)
    a = nextA
    b = nextB
  }
  while (a) {
    const next = a.nextSibling
    a.remove()
    a = next
  }
}

/** Changes `a` into `b` if it is of the same kind. */
function patch(a, b) {
  if (a.nodeName !== b.nodeName) return false
  if (a.nodeType === Node.TEXT_NODE) {
    if (b.data.startsWith(a.data)) a.appendData(b.data.slice(a.data.length))
    else a.data = b.data
    return true
  }
  if (a.codeBlock && b.codeBlock) {
    a.codeBlock.update(b.codeBlock)
    return true
  }
  if (a.codeBlock || b.codeBlock || a.className !== b.className || a.href !== b.href || a.start !== b.start) return false
  morph(a, b)
  return true
}
