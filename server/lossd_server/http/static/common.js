// What both pages share: asking the server, elements, and numbers as people read them.

let token = "";

export const byId = (id) => document.getElementById(id);

/** An element. properties: attributes, or `text`; children follow. */
export function element(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

/** The same in SVG. */
export function drawn(name, properties = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}

function filled(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") made.textContent = value;
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** What the server refuses. reason, field: as its errors have them; status: HTTP's, 0 where nobody answered. */
export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.reason = error.reason ?? "";
    this.field = error.field ?? "";
    this.requestId = error.request_id ?? "";
  }
}

/** The JSON of a path. body: of a POST. Throws Refused. */
export async function ask(path, { body, timeoutMs = 12000, signal } = {}) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const ends = [AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])];
  let answer, text;
  try {
    answer = await fetch(path, { method: body === undefined ? "GET" : "POST", headers, body, signal: AbortSignal.any(ends) });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, { message: "The server does not answer. It may have stopped, or the network is down." });
  }
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    throw new Refused(answer.status, { message: `The answer is no JSON (HTTP ${answer.status}): is it lossd that answers here?` });
  }
  if (!answer.ok) throw new Refused(answer.status, said.error ?? { message: `HTTP ${answer.status}` });
  return said;
}

/** The form where a token is typed, shown once the server asks for one. It stays in this page's memory, nowhere else. */
export function tokenForm(again) {
  const form = byId("token-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token = byId("token").value.trim();
    byId("token").value = "";
    again();
  });
  return {
    wanted(is) {
      if (is !== form.hidden) return;
      form.hidden = !is;
      if (is) byId("token").focus();
    },
    get given() {
      return token !== "";
    },
  };
}

const WORDS = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en");

/** A number of things: whole ones in full below a million. */
export function count(value) {
  if (value >= 1e6) return `${WORDS.format(value / 1e6)} M`;
  return Number.isInteger(value) || value >= 1e3 ? WHOLE.format(Math.round(value)) : WORDS.format(value);
}

export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  if (value >= 1) return `${WORDS.format(value)} s`;
  return value >= 1e-3 ? `${WORDS.format(value * 1e3)} ms` : `${WORDS.format(value * 1e6)} µs`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  for (; value >= 1024 && place < units.length - 1; place++) value /= 1024;
  return `${WORDS.format(value)} ${units[place]}`;
}

export function lasted(value) {
  const minutes = Math.floor(value / 60);
  if (minutes < 1) return `${Math.floor(value)} s`;
  if (minutes < 60) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} days`;
}
