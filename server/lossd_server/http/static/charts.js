// Charts: SVG from numbers, drawn at the width that they have, so that their letters stay as large. Colours are the
// stylesheet's.

import { drawn } from "./common.js";

/** Makes the picture `height` high; its width. */
function sized(svg, height) {
  const width = Math.max(240, svg.clientWidth || 600);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  return width;
}

/** A line over time with what is under it. values: the newest last; most: how many fill the width. */
export function sparkline(svg, values, most) {
  const height = 60;
  const width = sized(svg, height);
  const top = Math.max(1e-9, ...values);
  const step = width / Math.max(1, most - 1);
  const first = width - step * (values.length - 1);
  const points = values.map((value, i) => `${first + step * i},${height - 2 - (height - 6) * (value / top)}`);
  const base = drawn("line", { x1: 0, x2: width, y1: height - 1, y2: height - 1, class: "axis" });
  if (points.length < 2) return svg.replaceChildren(base);
  svg.replaceChildren(
    base,
    drawn("polygon", { points: `${first},${height} ${points.join(" ")} ${width},${height}`, class: "area-first" }),
    drawn("polyline", { points: points.join(" "), class: "stroke-first" }),
  );
}

/** Shares of one whole, side by side. parts: [class, value]. */
export function stacked(svg, parts) {
  const total = parts.reduce((sum, [, value]) => sum + value, 0);
  const whole = sized(svg, 16);
  let x = 0;
  svg.replaceChildren(
    ...parts.map(([kind, value]) => {
      const width = total > 0 ? (whole * value) / total : 0;
      const made = drawn("rect", { x, y: 0, width, height: 16, class: kind });
      x += width;
      return made;
    }),
  );
}

/** A bar for each count, with its name below. entries: [name, count]. */
export function histogram(svg, entries) {
  const [height, foot] = [110, 16];
  const width = sized(svg, height);
  const top = Math.max(1, ...entries.map(([, value]) => value));
  const step = width / Math.max(1, entries.length);
  const made = [drawn("line", { x1: 0, x2: width, y1: height - foot, y2: height - foot, class: "axis" })];
  entries.forEach(([name, value], i) => {
    const tall = ((height - foot - 4) * value) / top;
    const size = { x: i * step + 2, y: height - foot - tall, width: Math.max(1, step - 4), height: tall };
    made.push(drawn("rect", { ...size, class: "first" }, drawn("title", { text: `${name}: ${value}` })));
    made.push(drawn("text", { x: i * step + step / 2, y: height - 3, "text-anchor": "middle", text: name }));
  });
  svg.replaceChildren(...made);
}

/** Bars up and down from zero, a row of them for each row. chosen: [row, column]; choose: called with another. */
export function gradientBars(svg, rows, chosen, choose) {
  const [tall, left, head] = [76, 24, 16];
  const width = sized(svg, head + tall * rows.length);
  const finite = rows.flat().filter(Number.isFinite).map(Math.abs);
  const top = Math.max(1e-300, ...finite);
  const made = [];
  rows.forEach((row, r) => {
    const middle = head + tall * r + tall / 2;
    const step = (width - left) / row.length;
    if (r === 0) made.push(...row.map((_, c) => drawn("text", { x: left + (c + 0.5) * step, y: 11, "text-anchor": "middle", text: c })));
    made.push(drawn("text", { x: 0, y: middle + 4, text: r }));
    made.push(drawn("line", { x1: left, x2: width, y1: middle, y2: middle, class: "zero" }));
    row.forEach((value, c) => {
      const size = Number.isFinite(value) ? ((tall / 2 - 4) * value) / top : 0;
      const x = left + c * step;
      const own = r === chosen[0] && c === chosen[1] ? " chosen" : "";
      const bar = { x: x + step * 0.12, width: step * 0.76, y: size > 0 ? middle - size : middle, height: Math.abs(size) };
      made.push(drawn("rect", { ...bar, class: (value < 0 ? "second" : "first") + own }));
      const whole = drawn("rect", { x, y: head + tall * r, width: step, height: tall, fill: "transparent", "data-row": r, "data-column": c });
      whole.append(drawn("title", { text: `[${r}, ${c}]: ${value}` }));
      whole.addEventListener("click", () => choose(r, c));
      made.push(whole);
    });
  });
  svg.replaceChildren(...made);
}

/** A curve with its tangent and a point on it. points: [x, y], in order of x; at: [x, y, slope], slope or null. */
export function curve(svg, points, at, xName, yName) {
  const [height, left, foot, head] = [300, 52, 36, 26];
  const width = sized(svg, height);
  const known = points.filter(([, y]) => Number.isFinite(y));
  if (known.length < 2) {
    const text = "The curve has no finite values here.";
    return svg.replaceChildren(drawn("text", { x: width / 2, y: height / 2, "text-anchor": "middle", text }));
  }
  const xs = points.map(([x]) => x);
  const ys = [...known.map(([, y]) => y), ...(Number.isFinite(at[0]) && Number.isFinite(at[1]) ? [at[1]] : [])];
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  if (y1 - y0 < 1e-12) [y0, y1] = [y0 - 0.5, y1 + 0.5];
  const px = (x) => left + ((width - left - 12) * (x - x0)) / (x1 - x0);
  const py = (y) => head + ((height - foot - head) * (y1 - y)) / (y1 - y0);
  const made = [drawn("path", { d: `M${left},${head}V${height - foot}H${width - 8}`, class: "axis" })];
  for (let i = 0; i <= 4; i++) {
    const [x, y] = [x0 + ((x1 - x0) * i) / 4, y0 + ((y1 - y0) * i) / 4];
    made.push(drawn("text", { x: px(x), y: height - foot + 15, "text-anchor": "middle", text: short(x) }));
    made.push(drawn("text", { x: left - 6, y: py(y) + 4, "text-anchor": "end", text: short(y) }));
  }
  made.push(drawn("text", { x: width / 2, y: height - 4, "text-anchor": "middle", text: xName }));
  made.push(drawn("text", { x: 0, y: 12, text: yName }));
  const line = known.map(([x, y]) => `${px(x)},${py(y)}`).join(" ");
  made.push(drawn("polyline", { points: line, class: "stroke-first" }));
  const [x, y, slope] = at;
  if (Number.isFinite(x) && Number.isFinite(y)) {
    if (Number.isFinite(slope)) {
      const reach = Math.min((x1 - x0) / 8, (y1 - y0) / 4 / Math.max(1e-12, Math.abs(slope)));
      const ends = { x1: px(x - reach), y1: py(y - reach * slope), x2: px(x + reach), y2: py(y + reach * slope) };
      made.push(drawn("line", { ...ends, class: "tangent" }));
    }
    made.push(drawn("circle", { cx: px(x), cy: py(y), r: 6, class: "point" }));
  }
  svg.replaceChildren(...made);
}

export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}
