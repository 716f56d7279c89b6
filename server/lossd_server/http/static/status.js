// The status page: asks for /v1/status once a second. Rates and quantiles are differences of two answers.

import { ask, byId, bytes, count, element, lasted, seconds, tokenForm } from "./common.js";
import { histogram, sparkline, stacked } from "./charts.js";

const EVERY_MS = 1000;
const KEPT = 120; // answers, for the line of throughput
const WINDOW = 10; // seconds that rates and latencies are of

let answers = [];
let lost = 0; // when the first answer in a row did not come
const token = tokenForm(() => look());

async function look() {
  clearTimeout(look.timer);
  const own = (look.current = {});
  try {
    const found = await ask("/v1/status", { timeoutMs: 4000 });
    if (own !== look.current) return;
    heard(found);
  } catch (error) {
    if (own !== look.current) return;
    missed(error);
  }
  look.timer = setTimeout(look, document.hidden ? 10 * EVERY_MS : EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});

function heard(found) {
  const last = answers.at(-1);
  // Another server has its place: its counts are others.
  if (last && last.started_s !== found.started_s) answers = [];
  answers.push(found);
  if (answers.length > KEPT) answers.shift();
  lost = 0;
  token.wanted(false);
  byId("cards").hidden = false;
  byId("cards").classList.remove("stale");
  state("live", "Live");
  alert(found.ready ? "" : `The server is not ready: ${found.why_not}.`);
  show(found);
}

function missed(error) {
  if (error.status === 401) {
    token.wanted(true);
    state("lost", "Token wanted");
    return alert(error.reason === "NO_CREDENTIALS" ? "" : error.message);
  }
  lost ||= Date.now();
  const since = new Date(lost).toLocaleTimeString("en-GB");
  byId("cards").classList.add("stale");
  state("lost", "No answer");
  alert(`${error.message} (since ${since}; this page asks again every second, what is below is old)`);
}

function state(name, text) {
  const live = byId("live");
  if (live.dataset.state !== name) {
    live.dataset.state = name;
    live.textContent = text;
  }
}

/** Said once: a reader is not told again what has not changed. */
function alert(text) {
  const place = byId("alert");
  if (place.textContent === text) return;
  place.replaceChildren(...(text ? [element("p", { class: "alert", text })] : []));
}

function show(now) {
  const before = answers.find((one) => now.time_s - one.time_s <= WINDOW + 0.5) ?? now;
  const span = Math.max(1e-3, now.time_s - before.time_s);
  throughput(now, before, span);
  latency(now, before);
  batches(now, before);
  limits(now);
  errors(now, before, span);
  losses(now);
  facts(now);
}

const evaluated = (one) => Object.values(one.evaluations).reduce((sum, { completed }) => sum + completed, 0);

function throughput(now, before, span) {
  byId("rate").textContent = now === before ? "–" : count((evaluated(now) - evaluated(before)) / span);
  const rates = answers.slice(1).map((one, i) => (evaluated(one) - evaluated(answers[i])) / Math.max(1e-3, one.time_s - answers[i].time_s));
  sparkline(byId("rates"), rates.map((rate) => Math.max(0, rate)), KEPT - 1);
  const { started, completed, failed } = now.calls;
  byId("calls").textContent = `${count(started)} calls since the start: ${count(completed)} completed, ${count(failed)} failed; utilisation ${Math.round(100 * now.utilization)} %`;
}

/** The part of a histogram that came between two answers. */
function between(now, before, name) {
  const [one, other] = [now.histograms[name], before.histograms[name]];
  return { bounds: one.bounds, counts: one.counts.map((value, i) => value - other.counts[i]), sum: one.sum - other.sum };
}

const total = ({ counts }) => counts.reduce((sum, value) => sum + value, 0);
const mean = (one) => one.sum / total(one);

/** Where a share of a histogram lies, between the bounds of its bucket. */
function quantile(one, share) {
  let left = share * total(one);
  for (let i = 0; i < one.counts.length; i++) {
    if (left <= one.counts[i] && one.counts[i] > 0) {
      const lower = i ? one.bounds[i - 1] : 0;
      return i < one.bounds.length ? lower + ((one.bounds[i] - lower) * left) / one.counts[i] : one.bounds.at(-1);
    }
    left -= one.counts[i];
  }
  return NaN;
}

function latency(now, before) {
  let of = (name) => between(now, before, name);
  const recent = total(of("total_s")) > 0;
  if (!recent) of = (name) => now.histograms[name];
  const [whole, queue, compute] = [of("total_s"), of("queue_s"), of("compute_s")];
  byId("window").textContent = recent ? `the last ${WINDOW} seconds` : total(whole) ? "since the start: none lately" : "no calls yet";
  byId("mean").textContent = total(whole) ? seconds(mean(whole)) : "–";
  const parts = [mean(queue) || 0, mean(compute) || 0];
  parts.push(Math.max(0, (mean(whole) || 0) - parts[0] - parts[1]));
  stacked(byId("split"), [["second", parts[0]], ["first", parts[1]], ["third", parts[2]]]);
  byId("latencies").replaceChildren(
    latencyRow("second", "queue", mean(queue), queue),
    latencyRow("first", "compute", mean(compute), compute),
    latencyRow("third", "reply, rest", total(whole) ? parts[2] : NaN),
    latencyRow("", "a whole call", mean(whole), whole),
  );
}

function latencyRow(kind, name, average, one) {
  const head = element("th", { scope: "row" }, ...(kind ? [element("span", { class: `key ${kind}`, "aria-hidden": "true" })] : []), name);
  const figures = [average, one ? quantile(one, 0.5) : NaN, one ? quantile(one, 0.99) : NaN];
  return element("tr", {}, head, ...figures.map((value) => element("td", { text: seconds(value) })));
}

function batches(now, before) {
  let of = (name) => between(now, before, name);
  if (!total(of("batch_requests"))) of = (name) => now.histograms[name];
  const [requests, rows] = [of("batch_requests"), of("batch_rows")];
  const some = total(requests) > 0;
  byId("batch").textContent = some ? count(mean(requests)) : "–";
  const most = Math.max(4, requests.counts.findLastIndex((value) => value > 0));
  const entries = requests.counts.slice(0, most + 1).map((value, i) => [i < requests.bounds.length ? count(requests.bounds[i]) : "more", value]);
  histogram(byId("batches"), entries);
  byId("rows").textContent = some ? `${count(mean(rows))} rows a batch; ${count(total(now.histograms.batch_requests))} batches since the start` : "No batches yet.";
}

function limits(now) {
  const { inflight, memory, files } = now;
  const entries = [
    ["Bytes in flight", inflight.bytes, inflight.bytes_limit, bytes],
    ["Requests in flight", inflight.requests, inflight.requests_limit, count],
    ["Connections", inflight.connections, now.limits.max_connections, count],
    ["Memory of GPUs", memory.device_bytes, memory.device_bytes_total, bytes],
    ["Shared memory of clients", memory.shared_bytes, memory.shared_bytes_limit, bytes],
    ["Open files", files.open, files.limit, count],
    ["Utilisation", Math.round(100 * now.utilization), 100, (value) => `${value} %`],
  ].filter(([, value, limit]) => value !== null && limit);
  const place = byId("meters");
  if (place.children.length !== entries.length) place.replaceChildren(...entries.map(([name]) => limitRow(name)));
  entries.forEach(([name, value, limit, format], i) => {
    const [label, figure] = place.children[i].firstElementChild.children;
    const meter = place.children[i].lastElementChild;
    label.textContent = name;
    figure.textContent = `${format(value)} of ${format(limit)}`;
    Object.assign(meter, { min: 0, max: limit, low: 0.7 * limit, high: 0.9 * limit, optimum: 0, value });
    meter.setAttribute("aria-label", name);
    meter.setAttribute("aria-valuetext", figure.textContent);
  });
}

function limitRow(name) {
  const of = element("div", { class: "of" }, element("span", { text: name }), element("span"));
  return element("div", { class: "limit" }, of, element("meter"));
}

function errors(now, before, span) {
  const entries = [
    ...Object.entries(now.refused).map(([reason, { refused, shed }]) => ({
      name: shed ? `${reason} (load)` : reason,
      refused,
      earlier: before.refused[reason]?.refused ?? 0,
    })),
    ...Object.entries(now.http_refused).map(([reason, refused]) => ({
      name: `${reason} (HTTP)`,
      refused,
      earlier: before.http_refused[reason] ?? 0,
    })),
  ].sort((a, b) => b.refused - a.refused);
  byId("no-errors").hidden = entries.length > 0;
  byId("errors").hidden = entries.length === 0;
  byId("reasons").replaceChildren(
    ...entries.map(({ name, refused, earlier }) => {
      const rate = (refused - earlier) / span;
      return row(name, count(refused), rate > 0 ? count(rate) : "0");
    }),
  );
  const waiting = now.inflight.waiting ? ` ${count(now.inflight.waiting)} wait for room.` : "";
  byId("cancelled").textContent = (now.cancelled ? `${count(now.cancelled)} calls were given up by their clients.` : "") + waiting;
}

function row(name, ...figures) {
  // A long name may break where its words end.
  const words = name.split("_").flatMap((word, i) => (i ? ["_", element("wbr"), word] : [word]));
  return element("tr", {}, element("th", { scope: "row" }, ...words), ...figures.map((text) => element("td", { text })));
}

function losses(now) {
  const entries = Object.entries(now.evaluations);
  byId("no-losses").hidden = entries.length > 0;
  byId("losses").hidden = entries.length === 0;
  byId("by-loss").replaceChildren(...entries.map(([loss, { completed, failed }]) => row(loss, count(completed), count(failed))));
}

function facts(now) {
  const { workers, inflight, memory } = now;
  definitions("facts", {
    Version: now.version,
    Device: [...new Set(now.devices)].join("; ") || "not known yet",
    Backend: now.backend || "not known yet",
    Processes: `${workers.running} running, ${workers.restarts} restarted`,
    Started: `${lasted(Math.max(0, now.time_s - now.started_s))} ago`,
    Memory: `${bytes(memory.resident_bytes)} resident`,
    gRPC: now.addresses.join(", ") || "not open yet",
    Streams: count(inflight.streams),
  });
  const shown = (name, value) => (name.endsWith("_bytes") ? bytes(value) : name.endsWith("_s") ? seconds(value) : count(value));
  definitions("all-limits", Object.fromEntries(Object.entries(now.limits).map(([name, value]) => [name, shown(name, value)])));
}

function definitions(id, entries) {
  byId(id).replaceChildren(...Object.entries(entries).map(([name, text]) => element("div", {}, element("dt", { text: name }), element("dd", { text }))));
}

window.addEventListener("resize", () => answers.length && show(answers.at(-1)));
look();
