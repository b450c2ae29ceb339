// Nodes without HTML: every page of ours is built from these two functions.

export const $ = id => document.getElementById(id)

/** An element with these properties (`className`, `textContent`, …) and children; null children are left out. */
export function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children.filter(child => child != null))
  return made
}

/** Tells a screen reader, in the page's one status line. */
export const say = text => { $('say').textContent = text }
