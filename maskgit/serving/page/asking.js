// Asks a function of the server: through its queue, with what it tells on the way.
"use strict";

export const about = JSON.parse(document.getElementById("about-data").textContent);

const BUSY = "Too many are waiting just now. Please try again in a minute.";
const GONE = "The server does not answer. Is `maskgit serve` still running?";

function session() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function join(name, data, key, signal) {
  const body = JSON.stringify({
    data, fn_index: about.functions.indexOf(name), session_hash: key, event_data: null, trigger_id: null,
  });
  const headers = { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(about.join, { method: "POST", headers, body, signal });
  } catch (error) {
    throw signal.aborted ? error : new Error(GONE);
  }
  if (answer.status === 503) throw new Error(BUSY);
  if (!answer.ok) throw new Error((await answer.text()).slice(0, 200));
}

async function* messages(key, signal) {
  const answer = await fetch(`${about.data}?session_hash=${key}`, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) if (part.startsWith("data:")) yield JSON.parse(part.slice(5));
  }
}

// gradio sends the first text whole, the next ones as changes of the one before
function told(before, output) {
  if (typeof output === "string") return output;
  let text = before;
  for (const [action, , value] of output) text = action === "append" ? text + value : value;
  return text;
}

// yields { waiting: how many are before us } and what the function yields
export async function* ask(name, data, signal = new AbortController().signal) {
  const key = session();
  await join(name, data, key, signal);
  let text = null;
  for await (const message of messages(key, signal)) {
    if (message.msg === "estimation") yield { waiting: message.rank };
    if (message.msg === "process_generating" && message.success) {
      const next = told(text, message.output.data[0]);
      if (next !== text) yield JSON.parse(next);
      text = next;
    }
    const failed = message.msg === "process_completed" && !message.success;
    if (failed || (message.msg === "process_generating" && !message.success)) {
      throw new Error((message.output && message.output.error) || "This failed; the server's terminal says why.");
    }
    if (message.msg === "unexpected_error") throw new Error(message.message || GONE);
    if (message.msg === "process_completed" || message.msg === "close_stream") return;
  }
  throw new Error(GONE);
}

export async function askOnce(name, data) {
  let found = null;
  for await (const event of ask(name, data)) if (!("waiting" in event)) found = event;
  return found;
}

export function save(address, name) {
  const [head, body] = address.split(",");
  const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
