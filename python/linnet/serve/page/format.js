// Numbers as people read them.

const SPACE = "\u202f"; // narrow, does not break

function digits(value, significant) {
  if (value === 0) return "0";
  const places = Math.max(0, significant - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(places, 6));
}

function scaled(value, units, step) {
  let index = 0;
  while (value >= 999.5 && index + 1 < units.length) {
    value /= step;
    index += 1;
  }
  return [digits(value, 3), units[index]];
}

// 12 345 678 as "12.3 M".
export function count(value) {
  return value < 1000 ? String(value) : joined(scaled(value / 1000, ["k", "M", "G"], 1000));
}

// Pairs of number and unit.
export function latencyParts(ms) {
  if (ms === null || ms === undefined) return ["–", ""];
  return scaled(ms * 1000, ["µs", "ms", "s"], 1000);
}

export function bytesParts(bytes) {
  if (bytes === null || bytes === undefined) return ["–", ""];
  return scaled(bytes / 1000, ["kB", "MB", "GB", "TB"], 1000);
}

function joined([number, unit]) {
  return unit ? number + SPACE + unit : number;
}

// On an axis: "20 ms", not "20.0 ms".
export function latencyTick(ms) {
  const [number, unit] = latencyParts(ms);
  return joined([String(Number(number)), unit]);
}

export const latency = (ms) => joined(latencyParts(ms));
export const bytes = (count) => joined(bytesParts(count));

export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 99950) return (value / 1000).toFixed(0) + "k";
  if (value >= 9995) return (value / 1000).toFixed(1) + "k";
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : digits(value, 2);
}

export function plain(value) {
  return value === null || value === undefined ? "–" : String(Number(value.toPrecision(3)));
}

export function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let index = units.findIndex(([, size]) => seconds >= size);
  if (index < 0) return `${Math.round(seconds * 1000)}${SPACE}ms`;
  const [unit, size] = units[index];
  const whole = Math.floor(seconds / size);
  const [next, small] = units[index + 1] ?? ["", 0];
  const rest = small ? Math.floor((seconds - whole * size) / small) : 0;
  return `${whole}${SPACE}${unit}` + (rest && whole < 10 ? ` ${rest}${SPACE}${next}` : "");
}

export function port({ name, dtype, shape }) {
  const dims = shape === null ? "…" : shape.map((dim) => (dim === null ? "?" : dim)).join(", ");
  return `${name}: ${dtype}[${dims}]`;
}
