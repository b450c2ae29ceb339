// Messages to the other tabs of this browser, so that all of them show the same threads.

const channel = new BroadcastChannel('mcp-server-claude')

/** Tells the other tabs that a thread has a new question or answer, or was deleted. */
export const announceChange = (thread, { isDeleted = false } = {}) => channel.postMessage({ thread, isDeleted })

/** Calls `changed({ thread, isDeleted })` for each announcement of another tab. */
export const onChange = changed => channel.addEventListener('message', ({ data }) => changed(data))
