// Nodes without HTML: every page is built with these functions.

export const $ = id => document.getElementById(id)

/** An element with these properties (`className`, `textContent`, …) and children; null children are left out. */
export function node(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children.filter(child => child != null))
  return element
}

/** Announces a text to screen readers, in the page's only status line. */
export const say = text => { $('say').textContent = text }
