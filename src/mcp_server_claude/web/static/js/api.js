// Requests to this server, in JSON. A refusal is thrown as a Failure with the server's error object.

export class Failure extends Error {
  /** `error` is the server's `error` object: `text` for a person, `kind`, `retryable`. `status` is 0 without a response. */
  constructor(error, status = 0) {
    super(error.text)
    this.error = error
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

/** One page of a list, and the address of the next page, empty after the last (RFC 8288, `rel="next"`). */
export async function getPage(url) {
  const response = await request(url)
  const next = /<([^>]+)>; rel="next"/.exec(response.headers.get('Link') ?? '')?.[1] ?? ''
  return { items: await response.json(), next }
}

export async function request(url, options = {}) {
  let response
  try {
    response = await fetch(url, options)
  } catch {
    throw new Failure({ text: 'The server cannot be reached.', kind: 'unreachable', retryable: true })
  }
  if (response.ok) return response
  const body = await response.json().catch(() => ({}))
  const text = `The server answered with status ${response.status}.`
  throw new Failure(body.error ?? { text, kind: '', retryable: response.status >= 500 }, response.status)
}

/** Signs in again after the session has ended, and returns to this page. */
export const signIn = () => location.assign(`/signin?to=${encodeURIComponent(location.pathname + location.search)}`)
