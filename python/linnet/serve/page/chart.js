// Charts over the last minutes, and histograms; plain SVG.

const SVG = "http://www.w3.org/2000/svg";
export const WINDOWS = [60, 120, 300]; // seconds that a chart may show: the least that hold all there is

const LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 20, HEIGHT = 190;

export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export function drawing(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export function windowOf(times, now) {
  const age = times.length ? now - times[0] : 0;
  return WINDOWS.find((seconds) => age <= seconds) ?? WINDOWS.at(-1);
}

// From values to heights, 0 to 1, and the values that get a line: from 0 to a round number, or by powers of ten.
function linear(values) {
  const most = Math.max(...values);
  const rough = Math.max(most, 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const count = Math.max(1, Math.ceil(most / step - 1e-9));
  return { ticks: Array.from({ length: count + 1 }, (_, i) => i * step), height: (value) => value / (count * step) };
}

function logarithmic(values) {
  const positive = values.filter((value) => value > 0);
  const log = Math.log10;
  const low = Math.floor(log(Math.min(...positive)) + 1e-9), high = Math.max(low + 1, Math.ceil(log(Math.max(...positive)) - 1e-9));
  const parts = high - low === 1 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = low; power < high; power += 1) ticks.push(...parts.map((part) => part * 10 ** power));
  ticks.push(10 ** high);
  return { ticks, height: (value) => Math.max(0, (log(Math.max(value, 1e-9)) - low) / (high - low)) };
}

// Lines of values over time. `series`: [{name, kind, area}]; `format` of a value, `tick` of one on the axis.
export class TimeChart {
  constructor(figure, title, series, { format, tick = format, log = false }) {
    this.series = series;
    this.format = format;
    this.tick = tick;
    this.scale = log ? logarithmic : linear;
    this.window = WINDOWS[0];
    this.rows = [];
    this.now = 0;
    this.at = null;
    this.title = element("b", {}, title);
    const keys = series.map(({ name, kind }) => element("span", { class: `key ${kind}` }, name));
    this.svg = drawing("svg", { height: HEIGHT, role: "img" });
    this.grid = drawing("g");
    this.paths = series.map(({ kind, area }) => ({
      area: area ? drawing("path", { class: "area" }) : null,
      line: drawing("path", { class: kind }),
    }));
    this.cross = drawing("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.dots = series.map(({ kind }) => drawing("circle", { class: kind, r: 4.5, visibility: "hidden" }));
    this.svg.append(this.grid, ...this.paths.flatMap(({ area, line }) => (area ? [area, line] : [line])), this.cross, ...this.dots);
    this.tip = element("div", { class: "tip", hidden: "" });
    this.empty = element("p", { class: "empty" }, "no requests lately");
    figure.replaceChildren(element("figcaption", {}, this.title, ...keys), this.svg, this.empty, this.tip);
    this.figure = figure;
    this.peers = [this];
    const point = (event) => this.peers.forEach((chart) => chart.show(this.timeAt(event)));
    this.svg.addEventListener("pointermove", point);
    this.svg.addEventListener("pointerdown", point);
    this.svg.addEventListener("pointerleave", () => this.peers.forEach((chart) => chart.show(null)));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  // `rows`: [time, value, value ...], ascending; null where there is no value.
  update(rows, now, title) {
    this.rows = rows;
    this.now = now;
    this.window = windowOf(rows.map((row) => row[0]), now);
    this.title.textContent = title;
    this.draw();
  }

  x(time) {
    return LEFT + (1 - (this.now - time) / this.window) * (this.width - LEFT - RIGHT);
  }

  y(value) {
    return HEIGHT - BOTTOM - this.height(value) * (HEIGHT - TOP - BOTTOM);
  }

  timeAt(event) {
    const inside = event.clientX - this.svg.getBoundingClientRect().left;
    return this.now - (1 - (inside - LEFT) / (this.width - LEFT - RIGHT)) * this.window;
  }

  draw() {
    this.width = this.svg.clientWidth || 600;
    const values = this.rows.flatMap((row) => row.slice(1)).filter((value) => value !== null);
    const any = values.some((value) => value > 0);
    const { ticks, height } = this.scale(any ? values : [1]);
    this.height = height;
    this.empty.hidden = any;
    const right = this.width - RIGHT, ground = HEIGHT - BOTTOM;
    const lines = [];
    ticks.forEach((value, index) => {
      const y = this.y(value);
      lines.push(drawing("line", { class: index ? "grid" : "axis", x1: LEFT, x2: right, y1: y, y2: y }));
      if (any) lines.push(drawing("text", { x: LEFT - 7, y: y + 4, "text-anchor": "end" }, this.tick(value)));
    });
    const parts = this.width < 400 ? 2 : this.window === 300 ? 5 : 4;
    for (let part = 0; part <= parts; part += 1) {
      const ago = (this.window * part) / parts;
      const text = part === 0 ? "now" : ago % 60 ? `−${ago} s` : `−${ago / 60} min`;
      const anchor = part === 0 ? "end" : part === parts ? "start" : "middle";
      lines.push(drawing("text", { x: this.x(this.now - ago), y: HEIGHT - 4, "text-anchor": anchor }, text));
    }
    this.grid.replaceChildren(...lines);
    this.paths.forEach(({ area, line }, index) => {
      const { path, parts } = this.trace(index + 1);
      line.setAttribute("d", path);
      const down = parts.map((part) => `M${part[0][0]},${ground}L${part.map((p) => p.join(",")).join("L")}L${part.at(-1)[0]},${ground}Z`);
      if (area) area.setAttribute("d", down.join(""));
    });
    const last = this.rows.at(-1);
    const texts = this.series.map(({ name }, index) => `${name} ${last ? this.format(last[index + 1]) : "–"}`);
    this.svg.setAttribute("aria-label", `${this.title.textContent}; now: ${texts.join(", ")}`);
    this.show(this.at);
  }

  // A series as a path, broken where it has no values.
  trace(column) {
    const parts = [];
    let part = null;
    for (const row of this.rows) {
      if (row[column] === null) {
        part = null;
        continue;
      }
      if (!part) parts.push((part = []));
      part.push([this.x(row[0]).toFixed(1), this.y(row[column]).toFixed(1)]);
    }
    // A single value is a short stroke: seen all the same.
    const path = parts.map((p) => `M${p.map((xy) => xy.join(",")).join("L")}` + (p.length === 1 ? "h0.1" : "")).join("");
    return { path, parts };
  }

  show(time) {
    this.at = time;
    const near = time === null ? null : this.rows.reduce((best, row) => (!best || Math.abs(row[0] - time) < Math.abs(best[0] - time) ? row : best), null);
    const shown = near !== null && near[0] >= this.now - this.window;
    this.tip.hidden = !shown;
    this.cross.setAttribute("visibility", shown ? "visible" : "hidden");
    this.dots.forEach((dot, index) => {
      const value = shown ? near[index + 1] : null;
      dot.setAttribute("visibility", value === null ? "hidden" : "visible");
      if (value !== null) {
        dot.setAttribute("cx", this.x(near[0]));
        dot.setAttribute("cy", this.y(value));
      }
    });
    if (!shown) return;
    const x = this.x(near[0]);
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    const rows = this.series.map(({ name }, index) => element("div", {}, element("span", {}, name), element("span", {}, this.format(near[index + 1]))));
    const clock = new Date(near[0] * 1000).toLocaleTimeString();
    this.tip.replaceChildren(element("div", {}, element("span", {}, clock)), ...rows);
    const left = x + 14 > this.width - this.tip.offsetWidth - 20;
    this.tip.style.left = `${left ? x - this.tip.offsetWidth + 2 : x + 26}px`;
  }
}

// A line of values over the window, without axes.
export function spark(svg, rows, now) {
  const seconds = windowOf(rows.map((row) => row[0]), now);
  const width = svg.clientWidth || 110, height = 26;
  const most = Math.max(1e-9, ...rows.map((row) => row[1]));
  const points = rows.map(([time, value]) => `${((1 - (now - time) / seconds) * width).toFixed(1)},${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  svg.firstChild.setAttribute("d", points.length ? `M${points.join("L")}` : "");
}

// What was seen as bars, the reference as outlines. Bins are drawn equally wide: the reference fills them about equally.
export function histogram({ edges, shares, reference }, describe) {
  const width = 260, height = 70, ground = height - 2;
  const used = shares.map((_, index) => index).filter((index) => shares[index] > 0 || reference[index] > 0);
  const most = Math.max(1e-9, ...shares, ...reference);
  const step = width / Math.max(1, used.length);
  const svg = drawing("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe });
  used.forEach((bin, place) => {
    const tall = (share) => (share / most) * (ground - 4);
    const range = between(edges, bin);
    const bar = (kind, share, inset) =>
      drawing("rect", { class: kind, x: place * step + inset, y: ground - tall(share), width: step - 2 * inset, height: tall(share), rx: 2 });
    const text = `${range}: ${(shares[bin] * 100).toFixed(1)} %, reference ${(reference[bin] * 100).toFixed(1)} %`;
    svg.append(drawing("g", {}, bar("now", shares[bin], step * 0.2), bar("reference", reference[bin], step * 0.08), drawing("title", {}, text)));
  });
  svg.append(drawing("line", { class: "axis", x1: 0, x2: width, y1: ground, y2: ground }));
  const ends = edges.length ? [`≤ ${short(edges[0])}`, `≥ ${short(edges.at(-1))}`] : [];
  return [svg, element("p", { class: "ends" }, ...ends.map((text) => element("span", {}, text)))];
}

function short(value) {
  return Math.abs(value) < 1e-300 ? "0" : String(Number(value.toPrecision(3)));
}

function between(edges, bin) {
  const low = edges[bin - 1], high = edges[bin];
  if (low === undefined) return `below ${short(high)}`;
  if (high === undefined) return `from ${short(low)} on`;
  return high - low <= Math.abs(low) * 1e-12 + 1e-300 ? short(low) : `${short(low)} to ${short(high)}`;
}
