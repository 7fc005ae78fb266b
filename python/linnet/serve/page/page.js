// The status page: asks once a second, and draws what has changed.
import { element, drawing, histogram, spark, TimeChart, WINDOWS } from "./chart.js";
import * as format from "./format.js";

const $ = (id) => document.getElementById(id);

let points = []; // of the last five minutes
let chosen = ""; // the model that the charts are of; empty: all
let seen = 0; // when an answer came last
let latest = null;

const throughput = new TimeChart($("throughput"), "Requests/s", [
  { name: "answered", kind: "first", area: true },
  { name: "failed", kind: "bad" },
], { format: format.rate });
const latency = new TimeChart($("latency"), "Latency", [
  { name: "p50", kind: "first" },
  { name: "p99", kind: "second" },
], { format: format.latency, tick: format.latencyTick, log: true });
throughput.peers = latency.peers = [throughput, latency];

const STATES = {
  ready: ["good", "ready"], loading: ["warn", "loading"], failed: ["bad", "not available"], unloaded: ["", "not loaded"],
  AVAILABLE: ["good", "serving"], LOADING: ["warn", "loading"], START: ["warn", "waiting"], UNLOADING: ["warn", "draining"],
  END: ["", "not loaded"],
};

function pill([kind, text]) {
  return element("span", { class: `pill ${kind}` }, text);
}

async function ask() {
  const since = points.length ? points.at(-1).t : 0;
  const answer = await fetch(`api/status?since=${since}`, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.json();
}

function take(status) {
  if (latest && status.server.uptime < latest.server.uptime) points = []; // another process
  latest = status;
  points = [...points, ...status.points].filter((point) => point.t > status.now - WINDOWS.at(-1));
  if (chosen && !status.models.some((model) => model.name === chosen)) chosen = "";
  draw();
}

function draw() {
  const { server, models, now } = latest;
  header(server, models);
  tiles(server, models);
  charts(now);
  table(models, now);
  drift(models);
  calls(server, models);
  $("scope").hidden = !chosen;
}

function header(server, models) {
  const kinds = { ready: "good", draining: "warn", "not ready": "bad" };
  const texts = { ready: "ready", draining: "going away", "not ready": "not ready" };
  $("health").className = `pill ${kinds[server.state]}`;
  const missing = models.filter((model) => model.state === "failed" || model.state === "loading").map((model) => model.name);
  const why = server.state === "not ready" && missing.length ? `: ${missing.slice(0, 3).join(", ")}${missing.length > 3 ? " …" : ""}` : "";
  set($("health"), texts[server.state] + why);
  set($("about"), `up ${format.duration(server.uptime)} · version ${server.version} · ${server.kernels} kernels on ${server.cpus} CPU${server.cpus > 1 ? "s" : ""}`);
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function tiles(server, models) {
  const versions = models.flatMap((model) => model.versions).filter((version) => "rate" in version);
  const total = (key) => versions.reduce((sum, version) => sum + (version[key] ?? 0), 0);
  const failures = total("failures");
  const [, , p50, p99] = points.at(-1)?.models[""] ?? [0, 0, null, null];
  const rows = [
    ["Requests/s", format.rate(total("rate")), ""],
    ["p50", ...format.latencyParts(p50)],
    ["p99", ...format.latencyParts(p99)],
    ["Failed/s", format.rate(failures), "", failures > 0 ? "bad" : ""],
    ["Waiting", String(total("waiting")), ""],
    ["Cores busy", server.cpu.toFixed(server.cpu < 9.95 ? 1 : 0), `of ${server.cpus}`],
    ["Memory", ...format.bytesParts(server.memory)],
  ];
  const holder = $("tiles");
  if (!holder.childElementCount)
    holder.append(...rows.map(([name]) => element("div", { class: "tile" }, element("span", {}, name), element("b", {}, "", element("small")))));
  rows.forEach(([, number, unit, kind], index) => {
    const tile = holder.children[index], strong = tile.lastChild;
    tile.className = `tile ${kind ?? ""}`;
    if (strong.firstChild.nodeType === Node.TEXT_NODE) strong.firstChild.data = number;
    else strong.prepend(number);
    set(strong.lastChild, unit);
  });
}

function charts(now) {
  const of = chosen ? `${chosen}: ` : "";
  const rows = points.map((point) => [point.t, ...(point.models[chosen] ?? [0, 0, null, null])]);
  throughput.update(rows.map(([t, good, bad]) => [t, good, bad]), now, `${of}${chosen ? "requests/s" : "Requests/s"}`);
  latency.update(rows.map(([t, , , p50, p99]) => [t, p50, p99]), now, `${of}${chosen ? "latency" : "Latency"}`);
}

function choose(name) {
  chosen = chosen === name ? "" : name;
  draw();
}

// The table's rows are made anew when there are others, and filled in otherwise: what is clicked stays where it is.
let shape = "";
let cells = [];

function table(models, now) {
  const wanted = JSON.stringify([chosen, models.map((m) => [m.name, m.problem, m.labels, m.split, m.previous, m.versions.map((v) => [v.version, v.state, v.error, v.loaded])])]);
  if (wanted !== shape) {
    shape = wanted;
    cells = [];
    const focused = document.activeElement?.dataset?.model;
    $("models").replaceChildren($("models").tHead, ...models.map(modelRows));
    if (focused) [...document.querySelectorAll("button[data-model]")].find((b) => b.dataset.model === focused)?.focus();
  }
  $("models").hidden = !models.length;
  $("none").hidden = models.length > 0;
  for (const fill of cells) fill(models, now);
}

function modelRows(model, index) {
  const body = element("tbody", { class: model.name === chosen ? "chosen" : "" });
  const versions = model.versions.length ? model.versions : [{ version: null, state: model.state }];
  versions.forEach((version, place) => body.append(versionRow(model, version, index, place)));
  if (model.problem) body.append(note(model.problem, "problem"));
  for (const version of model.versions)
    if (version.error && !model.problem.includes(version.error)) body.append(note(`version ${version.version}: ${version.error}`, version.state === "END" ? "problem" : ""));
  if (model.name === chosen && model.versions.length) body.append(facts(model));
  return body;
}

function note(text, kind) {
  return element("tr", { class: `note ${kind}` }, element("td", { colspan: 11 }, text));
}

function versionRow(model, version, index, place) {
  const name = element("button", { type: "button", "data-model": model.name, "aria-expanded": model.name === chosen, title: "show this model alone, and more about it" }, model.name);
  name.addEventListener("click", () => choose(model.name));
  const head = element("th", { scope: "row" }, place ? "" : name);
  if (version.version !== null) head.append(element("small", {}, `version ${version.version}`));
  for (const [label, number] of Object.entries(model.labels)) if (number === version.version) head.append(element("span", { class: "label" }, label));
  const share = model.split[version.version];
  if (share !== undefined) head.append(element("span", { class: "label" }, `${Math.round(share * 100)} %`));
  const line = drawing("svg", { "aria-hidden": "true" }, drawing("path", { class: "first" }));
  const names = ["Requests/s", "p50", "p99", "Failed/s", "Waiting", "Batch", "Memory", "Load"];
  const numbers = names.map((text) => element("td", { class: "number", "data-name": text }, "–"));
  const state = version.error && version.state === "END" ? ["bad", "failed"] : STATES[version.state];
  const row = element("tr", { class: version.inputs ? "version" : "version silent" }, head, element("td", { class: "state" }, pill(state)), numbers[0], element("td", { class: "spark" }, line), ...numbers.slice(1));
  cells.push((models, now) => {
    const now_ = models[index].versions[place];
    if (now_ && "rate" in now_) {
      const texts = [format.rate(now_.rate), format.latency(now_.p50), format.latency(now_.p99), format.rate(now_.failures), String(now_.waiting), format.plain(now_.batch), format.bytes(now_.memory), format.duration(now_.load_seconds)];
      texts.forEach((text, i) => set(numbers[i], text));
      numbers[3].classList.toggle("bad", now_.failures > 0);
    }
    if (!place && model.state === "ready") spark(line, points.map((point) => [point.t, point.models[model.name]?.[0] ?? 0]), now);
  });
  return row;
}

// What is the same for all versions is said once.
function facts(model) {
  const versions = model.versions.filter((version) => version.inputs);
  const kinds = {
    takes: (v) => v.inputs.map(format.port).join(", "),
    gives: (v) => v.outputs.map(format.port).join(", "),
    batching: (v) => `${v.batching}${v.max_batch > 1 ? `, at most ${v.max_batch} rows` : ""}`,
    loaded: (v) => new Date(v.loaded * 1000).toLocaleString(),
  };
  const lines = Object.entries(kinds).flatMap(([name, text]) => {
    const same = new Set(versions.map(text)).size === 1;
    return (same ? versions.slice(0, 1) : versions).map((v) => [same ? name : `${name} (version ${v.version})`, text(v)]);
  });
  if (model.previous.length) lines.push(["can return to", `version ${model.previous.at(-1).join(", ")}`]);
  const rows = lines.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, element("code", {}, text))]);
  return element("tr", { class: "facts" }, element("td", { colspan: 11 }, element("dl", {}, ...rows)));
}

const VERDICTS = [[0.25, "bad", "changed"], [0.1, "warn", "moving"], [-1, "good", "steady"]];
const ENOUGH = 1000; // elements

function drift(models) {
  const cards = models.flatMap((model) => model.versions.flatMap((version) => (version.drift ?? []).map((row) => card(model, version, row))));
  $("drift-cards").replaceChildren(...cards);
  const hint = cards.length
    ? "How far inputs and outputs have moved from the reference: PSI below 0.1 is steady, above 0.25 has changed. Bars: seen lately. Outlines: the reference."
    : "No model has a reference yet. “linnet drift MODEL --data SAMPLES” records one, and the server picks it up.";
  set($("drift-hint"), hint);
}

function card(model, version, row) {
  const [, kind, word] = VERDICTS.find(([least]) => row.psi > least);
  const state = row.elements < ENOUGH ? ["", "too few yet"] : [kind, word];
  const figure = (name, text) => element("div", {}, element("dt", {}, name), element("dd", {}, text));
  const title = `${row.output ? "output" : "input"} ${row.name}`;
  return element("article", { class: "card" },
    element("div", { class: "top" }, element("div", {}, element("h3", {}, title), element("p", { class: "quiet" }, `${model.name}, version ${version.version}`)), pill(state)),
    element("dl", {}, figure("PSI", row.psi.toFixed(2)), figure("KS", row.ks.toFixed(2)), figure("NaN", `${format.plain(row.nans * 100)} %`), figure("seen", format.count(row.elements))),
    ...histogram(row, `${title} of ${model.name}: PSI ${row.psi.toFixed(2)}`));
}

let told = "";

function calls(server, models) {
  const name = models.find((model) => model.state === "ready")?.name ?? "MODEL";
  const wanted = JSON.stringify([server.addresses, name]);
  if (wanted === told) return;
  told = wanted;
  const reached = (address) => address.replace(/(^|\/\/)(0\.0\.0\.0|\[::\])(?=:)/, `$1${location.hostname}`);
  const examples = {
    gRPC: (at) => `linnet call ${name} --address ${at}`,
    "gRPC, Unix socket": (at) => `linnet call ${name} --address ${at}`,
    HTTP: (at) => `curl ${at}/v2/models/${name}`,
  };
  const speaks = { gRPC: "Open Inference Protocol (Triton, KServe), TensorFlow Serving", "gRPC, Unix socket": "the same, on this machine", HTTP: "REST v2 and v1", administration: "gRPC, for changing what is served" };
  $("calls").replaceChildren(...Object.entries(server.addresses).map(([kind, at]) => {
    const value = element("dd", {}, element("code", {}, reached(at)), element("span", { class: "quiet" }, `  ${speaks[kind]}`));
    if (kind in examples) value.append(element("code", { class: "try" }, examples[kind](reached(at))));
    return element("div", {}, element("dt", {}, kind), value);
  }));
}

function report(error) {
  const since = seen ? ` since ${new Date(seen).toLocaleTimeString()}` : "";
  set($("lost"), `No answer from the server${since}. Trying again.`);
  $("lost").hidden = false;
  $("health").className = "pill bad";
  set($("health"), "no answer");
  console.warn(error);
}

async function loop() {
  try {
    take(await ask());
    seen = Date.now();
    $("lost").hidden = true;
    document.title = `${$("tiles").firstChild.lastChild.textContent}/s · Linnet`;
  } catch (error) {
    report(error);
    document.title = "no answer · Linnet";
  }
  setTimeout(loop, document.hidden ? 10000 : 1000);
}

const back = element("button", { type: "button" }, "Show all models");
back.addEventListener("click", () => choose(chosen));
$("scope").append(back);
loop();
