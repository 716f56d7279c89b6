// The playground: a form, the server's answer to it, and the same request in other languages.

import { ask, byId, count, element, seconds, tokenForm } from "./common.js";
import { curve, gradientBars, short } from "./charts.js";
import { EXAMPLES, LOSSES } from "./losses.js";
import { Mistyped, SNIPPETS, asNumber, body, curveRequest, rowsOf } from "./request.js";
import { makeTabs } from "./tabs.js";

const WAIT_MS = 250; // after the last key
const POINTS = 81;
const PASSING = new Set([429, 503]); // HTTP's, of what another moment may mend
const FIRST = 4; // options that are always seen
const REACH = 5; // of the curve, to each side
const [MOST_ROWS, MOST_COLUMNS] = [8, 16]; // of bars
const PROBABILITIES = "probabilities";

let chosen = [0, 0];
let language = "Python";
let request = null; // the last that was right
let where = { url: location.origin, address: "127.0.0.1:50051", token: false };
let asking = new AbortController();
let timer = 0;
const token = tokenForm(() => {
  findAddress();
  compute();
});

const loss = () => byId("loss").value;
const field = (name) => byId(name === "input" || name === "target" ? name : `option-${name}`);

function values() {
  const names = ["input", ...(LOSSES[loss()].target ? ["target"] : []), ...LOSSES[loss()].options.map(({ name }) => name)];
  return Object.fromEntries(names.map((name) => [name, field(name).value]));
}

function showLoss(given) {
  const known = LOSSES[loss()];
  byId("target-field").hidden = !known.target;
  byId("target-hint").textContent = `· ${known.target ?? ""}`;
  byId("example").replaceChildren(
    element("option", { value: "", text: "one of your own" }),
    ...EXAMPLES[loss()].map(([name], i) => element("option", { value: i, text: name })),
  );
  byId("options").replaceChildren(...known.options.slice(0, FIRST).map(optionField));
  byId("more-options").replaceChildren(...known.options.slice(FIRST).map(optionField));
  byId("more").hidden = known.options.length <= FIRST;
  byId("input").value = given.input ?? "";
  byId("target").value = given.target ?? "";
  for (const { name } of known.options) if (given[name] !== undefined) field(name).value = given[name];
  // What is said is seen.
  byId("more").open = known.options.slice(FIRST).some(({ name }) => field(name).value !== "");
}

function optionField({ name, kind, choices, byDefault, hint }) {
  const id = `option-${name}`;
  const label = element("label", { for: id }, name, ...(hint ? [element("span", { class: "unit", text: ` · ${hint}` })] : []));
  const control = kind === "choice"
    ? element("select", { id }, element("option", { value: "", text: `default: ${byDefault}` }), ...choices.map((one) => element("option", { value: one, text: one })))
    : element("input", { id, autocomplete: "off", spellcheck: "false", inputmode: kind === "tensor" ? "text" : "decimal" });
  return element("div", { class: "field" }, label, control);
}

function useExample(i) {
  showLoss(EXAMPLES[loss()][i][1]);
  byId("example").value = String(i);
  chosen = [0, 0];
}

// The address: what is typed, and nothing else.

function store() {
  const given = { loss: loss(), ...values(), grad: byId("grad").checked ? "" : "no", row: chosen[0] || "", column: chosen[1] || "" };
  const kept = Object.entries(given).filter(([, value]) => value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

function restore() {
  const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const known = Object.hasOwn(LOSSES, given.loss ?? "");
  byId("loss").value = known ? given.loss : "cross_entropy";
  if (!known) return useExample(0);
  showLoss(given);
  byId("grad").checked = given.grad !== "no";
  chosen = [Number(given.row) || 0, Number(given.column) || 0];
}

// Computing.

function soon() {
  clearTimeout(timer);
  timer = setTimeout(compute, WAIT_MS);
}

async function compute() {
  clearTimeout(timer);
  asking.abort();
  const own = (asking = new AbortController());
  store();
  faulty(null);
  byId("input-hint").textContent = `· ${values().kind || LOSSES[loss()].input}`;
  try {
    request = body(loss(), values(), byId("grad").checked);
  } catch (error) {
    if (error instanceof Mistyped) return failed(error);
    throw error;
  }
  where.token = token.given;
  showSnippet();
  byId("result").classList.add("busy");
  try {
    const asked = { loss: loss(), request };
    const answer = await ask(`/v1/losses/${asked.loss}`, { body: JSON.stringify(request), signal: own.signal });
    showAnswer(answer);
    showGradient(answer);
    await showCurve(asked, answer, own.signal);
  } catch (error) {
    if (!own.signal.aborted) failed(error);
  } finally {
    if (own === asking) byId("result").classList.remove("busy");
  }
}

function failed(error) {
  if (error.status === undefined && !(error instanceof Mistyped)) throw error;
  if (error.status === 401) token.wanted(true);
  const gone = error.status === 0;
  state(gone ? "lost" : "live", gone ? "No answer" : "Live");
  const id = error.status === 500 && error.requestId ? ` (request ${error.requestId})` : "";
  say(error.reason === "NO_CREDENTIALS" ? "" : `${error.reason ? `${error.reason}: ` : ""}${error.message}${id}`);
  faulty(error.field);
  byId("value").textContent = "–";
  byId("summary").textContent = "";
  byId("gradient").hidden = byId("curve-card").hidden = true;
  if (gone || PASSING.has(error.status)) timer = setTimeout(compute, 2000); // until it is there again, or has room
}

function say(text) {
  if (byId("alert").textContent !== text) byId("alert").replaceChildren(...(text ? [element("p", { class: "alert", text })] : []));
}

function state(name, text) {
  byId("live").dataset.state = name;
  if (byId("live").textContent !== text) byId("live").textContent = text;
}

function faulty(name) {
  for (const one of byId("form").querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  if (name) field(name)?.setAttribute("aria-invalid", "true");
}

function showAnswer(answer) {
  say("");
  state("live", "Live");
  token.wanted(false);
  byId("value").textContent = Array.isArray(answer.loss) ? JSON.stringify(answer.loss, rounded).replaceAll(",", ", ") : String(answer.loss);
  const { summary, timing } = answer;
  byId("summary").textContent =
    `sum ${summary.loss_sum}, weight ${summary.weight_sum}, ${count(summary.count)} counted; queue ${seconds(timing.queue_s)}, compute ${seconds(timing.compute_s)}`;
}

const rounded = (_, value) => (typeof value === "number" ? Number(value.toPrecision(6)) : value);

function showGradient(answer) {
  const rows = answer.grads?.input === undefined ? null : rowsOf(answer.grads.input);
  byId("gradient").hidden = rows === null;
  if (rows === null) return;
  const shown = rows.slice(0, MOST_ROWS).map((row) => row.slice(0, MOST_COLUMNS).map(asNumber));
  gradientBars(byId("bars"), shown, chosen, choose);
  const cut = rows.length > MOST_ROWS || rows[0].length > MOST_COLUMNS ? ` The first ${shown.length} rows and ${shown[0].length} columns.` : "";
  byId("bars-note").textContent = `Up: a larger number makes the loss larger. Press a bar for its curve.${cut}`;
  byId("bars").setAttribute("aria-label", `Gradient: ${shown.map((row, i) => `row ${i}: ${row.map(short).join(", ")}`).join("; ")}`);
  const head = element("tr", {}, element("th", { scope: "col", text: "row" }), ...shown[0].map((_, i) => element("th", { scope: "col", text: i })));
  const lines = shown.map((row, i) => element("tr", {}, element("th", { scope: "row", text: i }), ...row.map((value) => element("td", { text: value.toPrecision(6) }))));
  byId("numbers").replaceChildren(element("thead", {}, head), element("tbody", {}, ...lines));
}

function choose(row, column) {
  chosen = [row, column];
  compute();
}

async function showCurve(asked, answer, signal) {
  const rows = rowsOf(asked.request.input);
  byId("curve-card").hidden = rows === null || rows[0].length === 0;
  if (byId("curve-card").hidden) return;
  chosen = [Math.min(chosen[0], rows.length - 1), Math.min(chosen[1], rows[0].length - 1)];
  byId("row-field").hidden = rows.length === 1;
  [byId("row").value, byId("column").value] = chosen;
  [byId("row").max, byId("column").max] = [rows.length - 1, rows[0].length - 1];
  const at = asNumber(rows[chosen[0]][chosen[1]]);
  const xs = abscissae(asked, Number.isFinite(at) ? at : 0);
  // The point itself is the last, and so is on the curve to the bit.
  const wanted = curveRequest(asked.loss, asked.request, chosen, [...xs, Number.isFinite(at) ? at : rows[chosen[0]][chosen[1]]]);
  if (wanted === null) return (byId("curve-card").hidden = true);
  const grads = { ...wanted, grad: true };
  const found = await ask(`/v1/losses/${asked.loss}`, { body: JSON.stringify(asked.request.grad ? grads : wanted), signal });
  const heights = found.loss.map((one) => [one].flat(Infinity).reduce((sum, value) => sum + asNumber(value), 0));
  const slopes = found.grads?.input?.map((one) => asNumber(Array.isArray(one) ? one[chosen[1]] : one));
  const what = LOSSES[asked.loss].rows ? "loss of the row" : "loss of the element";
  const name = Array.isArray(asked.request.input[0]) ? `input[${chosen[0]}, ${chosen[1]}]` : `input[${chosen[1]}]`;
  curve(byId("curve"), xs.map((x, i) => [x, heights[i]]), [at, heights.at(-1), slopes?.at(-1) ?? null], name, what);
  const text = `${name} = ${at}: ${what} ${heights.at(-1)}${slopes ? `, slope ${short(slopes.at(-1))}` : ""}`;
  byId("curve-note").textContent = text;
  byId("curve").setAttribute("aria-label", `Curve. ${text}`);
}

/** Where the curve is asked for: from 0 to 1 for probabilities, below 0 for their logarithms, else around the number. */
function abscissae({ loss: name, request: { kind } }, at) {
  const meant = kind ?? { bce: PROBABILITIES, entropy: PROBABILITIES, self_information: PROBABILITIES, kl_divergence: "log_probabilities", nll: "log_probabilities" }[name];
  let [first, last] = [at - REACH, at + REACH];
  if (meant === PROBABILITIES) [first, last] = [0, 1];
  if (meant === "counts") [first, last] = [0, Math.max(2 * at, 10)];
  if (meant === "log_probabilities") last = Math.min(last, 0);
  return Array.from({ length: POINTS }, (_, i) => first + ((last - first) * i) / (POINTS - 1));
}

// The request in other languages.

function showSnippet() {
  byId("snippet").textContent = SNIPPETS[language](loss(), request, where);
}

async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied.";
  } catch {
    said.textContent = "This browser does not let a page copy here: mark it, and copy by hand.";
  }
  setTimeout(() => (said.textContent = ""), 4000);
}

/** Where gRPC is answered, for the Python of the request. */
async function findAddress() {
  try {
    const { addresses } = await ask("/v1/status");
    if (addresses.length) where.address = addresses[0].replace(/^(0\.0\.0\.0|\[::\])/, location.hostname);
    if (request) showSnippet();
  } catch (error) {
    if (error.status === 401) token.wanted(true);
  }
}

function start() {
  byId("loss").replaceChildren(...Object.entries(LOSSES).map(([name, { title }]) => element("option", { value: name, text: title })));
  makeTabs(byId("tabs"), Object.keys(SNIPPETS), byId("snippet"), (name) => {
    language = name;
    if (request) showSnippet();
  });
  restore();
  byId("loss").addEventListener("change", () => {
    useExample(0);
    compute();
  });
  byId("example").addEventListener("change", ({ target }) => {
    if (target.value !== "") useExample(Number(target.value));
    compute();
  });
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    compute();
  });
  byId("form").addEventListener("input", ({ target }) => {
    if (target.id === "input" || target.id === "target") byId("example").value = "";
    if (target.id !== "loss" && target.id !== "example") soon();
  });
  for (const id of ["row", "column"]) {
    byId(id).addEventListener("input", () => {
      chosen = [Number(byId("row").value) || 0, Number(byId("column").value) || 0];
      soon();
    });
  }
  byId("share").addEventListener("click", () => copy(location.href, byId("shared")));
  byId("copy").addEventListener("click", () => copy(byId("snippet").textContent, byId("copied")));
  window.addEventListener("hashchange", () => {
    restore();
    compute();
  });
  window.addEventListener("resize", soon);
  findAddress();
  compute();
}

start();
