// Requests: what is typed as tensors and options, the same request in other languages, and the one of the curve.

import { LOSSES } from "./losses.js";

/** What is wrong with what was typed. field: where. */
export class Mistyped extends Error {
  constructor(field, sentence) {
    super(sentence);
    this.field = field;
  }
}

const WORDS = new Map([
  ["nan", "NaN"],
  ...["inf", "infinity", "+inf", "+infinity"].map((word) => [word, "Infinity"]),
  ...["-inf", "-infinity"].map((word) => [word, "-Infinity"]),
]);
const PYTHON = new Map([["NaN", "np.nan"], ["Infinity", "np.inf"], ["-Infinity", "-np.inf"]]);

/** Numbers as people paste them: JSON, what Python prints, or rows of numbers with spaces, commas or semicolons. */
export function tensor(field, text) {
  const bare = text.trim().replace(/\b(tensor|np\.array|array)\s*\(/g, "").replace(/,?\s*\b(dtype|device)\s*=\s*[\w.']+/g, "").replace(/\)\s*$/, "");
  if (!bare) throw new Mistyped(field, `${field} is empty`);
  if (bare.startsWith("[")) {
    const json = bare.replace(/"?([-+]?\b(?:nan|inf|infinity)\b)"?/gi, (_, word) => `"${WORDS.get(word.toLowerCase())}"`);
    try {
      // As numpy prints: 1. and .5 are numbers, and spaces part them.
      return JSON.parse(json.replace(/(\d)\.(?!\d)/g, "$1.0").replace(/(^|[^\d])\.(\d)/g, "$10.$2").replace(/([\d"\]])\s+(?=[-\d"[])/g, "$1, "));
    } catch {
      throw new Mistyped(field, `${field}: this is no list of numbers`);
    }
  }
  const rows = bare.split(/\n+/).map((line) => line.trim().split(/[\s,;]+/).filter(Boolean).map((word) => number(field, word)));
  if (rows.every((row) => row.length === 1)) return rows.length === 1 ? rows[0][0] : rows.flat();
  return rows.length === 1 ? rows[0] : rows;
}

function number(field, word) {
  const known = WORDS.get(word.toLowerCase());
  if (known) return known;
  if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(word)) throw new Mistyped(field, `${field}: ${word.slice(0, 40)} is no number`);
  return Number(word);
}

/** The body of a request. values: what is typed, by field; grad: whether the gradient is asked for. Throws Mistyped. */
export function body(loss, values, grad) {
  const known = LOSSES[loss];
  const found = { input: tensor("input", values.input ?? "") };
  if (known.target) found.target = tensor("target", values.target ?? "");
  for (const { name, kind } of known.options) {
    const text = (values[name] ?? "").trim();
    if (!text) continue;
    if (kind === "choice") found[name] = text;
    else if (kind === "tensor") found[name] = tensor(name, text);
    else found[name] = number(name, text);
  }
  if (grad) found.grad = true;
  return found;
}

/** JSON with its rows on lines of their own, whose floats stay floats. */
export function pretty(request) {
  const lines = Object.entries(request).map(([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value).replace(/,/g, ", ")}`);
  return `{\n${lines.join(",\n")}\n}`;
}

/** The request in a language. where: url of this server, address of gRPC; token: whether one is needed. */
export const SNIPPETS = {
  Python(loss, request, { address, token }) {
    const { input, target, grad, ...options } = request;
    const given = [`input=${array(input, "float64")}`, ...(target === undefined ? [] : [`target=${array(target, targetDtype(loss, request))}`])];
    const named = Object.entries(options).map(([name, value]) => `${name}=${python(name, value)}`);
    if (grad) named.push("grad=True");
    const names = target === undefined ? "input" : "input, target";
    return [
      "import lossd",
      "import numpy as np",
      "",
      ...given.map((line) => line.replace("=", " = ")),
      ...(token ? ["# the token is read from the variable LOSSD_TOKEN"] : []),
      `with lossd.Client("${address}") as client:`,
      `    result = client.${loss}(${[names, ...named].join(", ")})`,
      "print(result.loss)",
      ...(grad ? ["print(result.grad)"] : []),
      "",
    ].join("\n");
  },
  curl(loss, request, { url, token }) {
    const header = token ? ` \\\n  --header "authorization: Bearer $LOSSD_TOKEN"` : "";
    return `curl --header "content-type: application/json"${header} \\\n  --data '${JSON.stringify(request)}' \\\n  ${url}/v1/losses/${loss}\n`;
  },
  TypeScript(loss, request, { url, token }) {
    const header = token ? ", authorization: `Bearer ${process.env.LOSSD_TOKEN}`" : "";
    return [
      "type Numbers = number | string | Numbers[];",
      "",
      `const response = await fetch("${url}/v1/losses/${loss}", {`,
      '  method: "POST",',
      `  headers: { "content-type": "application/json"${header} },`,
      `  body: JSON.stringify(${pretty(request).replaceAll("\n", "\n  ")}),`,
      "});",
      "const result = await response.json();",
      "if (!response.ok) throw new Error(result.error.message);",
      "const loss: Numbers = result.loss;",
      `console.log(loss${request.grad ? ", result.grads.input" : ""});`,
      "",
    ].join("\n");
  },
  JSON: (_, request) => `${pretty(request)}\n`,
};

const whole = (value) => (Array.isArray(value) ? value.every(whole) : Number.isInteger(value));

function targetDtype(loss, { target, target_kind: kind }) {
  const indexed = loss === "nll" || (loss === "cross_entropy" && (kind ?? "indices") === "indices");
  return indexed && whole(target) ? "int64" : "float64";
}

function array(value, dtype) {
  return `np.array(${literal(value)}, dtype=np.${dtype})`;
}

function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  return PYTHON.get(value) ?? String(value);
}

function python(name, value) {
  if (Array.isArray(value) || /weight$/.test(name)) return array(value, "float64");
  return typeof value === "string" ? JSON.stringify(value) : literal(value);
}

/** Rows of numbers of a tensor of one or two dimensions; null for more. */
export function rowsOf(value) {
  if (!Array.isArray(value)) return [[value]];
  if (!Array.isArray(value[0])) return [value];
  return value.some((row) => row.some(Array.isArray)) ? null : value;
}

export const asNumber = (value) => (typeof value === "string" ? Number(value) : value);

/**
 * The request whose entries are the loss as one number of the input moves: along xs. at: its row and column.
 * Null where there is none. The loss of a row is the sum of its entries in the answer.
 */
export function curveRequest(loss, request, [row, column], xs) {
  const rows = rowsOf(request.input);
  if (rows === null || rows[row]?.[column] === undefined) return null;
  const flat = !Array.isArray(request.input) || !Array.isArray(request.input[0]);
  const { grad, grad_output, normalizer, row_weight, ...found } = request;
  found.reduction = "none";
  if (LOSSES[loss].rows) {
    found.input = xs.map((x) => rows[row].map((value, i) => (i === column ? x : value)));
    if (request.target !== undefined) found.target = repeated(flat ? request.target : request.target[row], xs.length);
    const own = flat ? row_weight : row_weight?.[row];
    if (own !== undefined) found.row_weight = repeated(Array.isArray(own) ? own[0] : own, xs.length);
    return found;
  }
  found.input = xs;
  if (request.target !== undefined) found.target = repeated(element(request.target, row, column), xs.length);
  for (const name of ["weight", "pos_weight"]) {
    if (request[name] !== undefined) found[name] = repeated(element(request[name], row, column), xs.length);
  }
  return found;
}

const repeated = (value, times) => Array.from({ length: times }, () => value);

/** An entry of a tensor that broadcasts to rows and columns. */
function element(value, row, column) {
  const rows = rowsOf(value) ?? [[]];
  const own = rows[rows.length === 1 ? 0 : row] ?? [];
  return own[own.length === 1 ? 0 : column];
}
