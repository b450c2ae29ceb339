// Our own server, spoken to in JSON. What it refuses comes as a Failure that carries its words.

export class Failure extends Error {
  /** `told` is the server's `error` object: `text` for a person, `kind`, `retryable`. */
  constructor(told, status = 0) {
    super(told.text)
    this.told = told
    this.status = status
  }
}

export const get = async url => (await request(url)).json()
export const remove = url => request(url, { method: 'DELETE' })
export const post = (url, body, accept = 'application/json') => request(url, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', Accept: accept },
  body: JSON.stringify(body),
})

export async function request(url, options = {}) {
  let response
  try {
    response = await fetch(url, options)
  } catch {
    throw new Failure({ text: 'The server cannot be reached.', kind: 'unreachable', retryable: true })
  }
  if (response.ok) return response
  const answer = await response.json().catch(() => ({}))
  const text = `The server answered with status ${response.status}.`
  throw new Failure(answer.error ?? { text, kind: '', retryable: response.status >= 500 }, response.status)
}

/** A reader whose session has ended signs in, and comes back to where they were. */
export const signIn = () => location.assign(`/signin?to=${encodeURIComponent(location.pathname + location.search)}`)
