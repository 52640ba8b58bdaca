"use strict";
// Everything from outside is set as text or as an attribute, never as HTML.

const FEWEST_PARTS = 24;
const EVERY_MS = 5000;
const LIMIT_MS = 15000;
const KINDS = {
  alarm: "alarm", no_audio: "no audio", drift: "drift", source_failed: "source failed",
  alarm_over: "alarm over", audio_back: "audio is back", source_back: "source is back",
};
const STATES = { off: "machine off", waiting: "waiting for sound" };
const TONES = { normal: "good", alarm: "alarm", "no audio": "alarm" };
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600, HEIGHT = 120;

const byId = (id) => document.getElementById(id);
let span = "hour";
let lastAnswer = null;
let timer = 0;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function draw(tag, className, attributes) {
  const element = document.createElementNS(SVG, tag);
  element.setAttribute("class", className);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const figure = (value) => (value == null ? "–" : String(Number(value.toPrecision(3))));

function when(iso) {
  const date = new Date(iso);
  if (!iso || isNaN(date)) return "–";
  const isToday = date.toDateString() === new Date().toDateString();
  const day = { month: "short", day: "numeric" };
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  return date.toLocaleString([], isToday ? clock : { ...day, ...clock });
}

function facts(pairs) {
  const list = make("p", "facts");
  for (const [name, value] of pairs) {
    const fact = make("span", "", `${name} `);
    fact.append(make("b", "", value));
    list.append(fact);
  }
  return list;
}

/* Keep an element per key, so that focus and a sound that plays survive an update. */
function reconcile(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let element = known.get(key);
    known.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    update(element, item);
    if (element === before) before = before.nextSibling;
    else parent.insertBefore(element, before);
  }
  for (const gone of known.values()) gone.remove();
}

function chart(machine, state) {
  const threshold = machine.latest ? machine.latest.threshold : null;
  const scores = machine.points.map((point) => point[1]);
  const heights = threshold == null ? scores : [...scores, threshold];
  let low = Math.min(...heights), high = Math.max(...heights);
  const margin = 0.08 * (high - low) || 1;
  low -= margin;
  high += margin;
  const x = (part) => ((part - state.first_part + 0.5) * WIDTH / state.n_parts).toFixed(1);
  const y = (score) => (HEIGHT * (high - score) / (high - low)).toFixed(1);

  const steps = machine.points.slice(1).map((p, i) => p[0] - machine.points[i][0]).sort((a, b) => a - b);
  const longestStep = 3 * (steps[Math.floor(steps.length / 2)] || 1);
  let path = "", anomalous = "", suspicious = "";
  machine.points.forEach(([part, score, severity], i) => {
    const isNew = i === 0 || part - machine.points[i - 1][0] > longestStep;
    path += `${isNew ? `M${x(part)} ${y(score)}` : ""}L${x(part)} ${y(score)}`;
    const dot = `M${x(part)} ${y(score)}h0`;
    if (severity === 2) anomalous += dot;
    if (severity === 1) suspicious += dot;
  });

  const svg = draw("svg", "", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  const told = `scores of ${machine.machine} over the last ${state.span}: ` +
    `highest ${figure(Math.max(...scores))}, threshold ${figure(threshold)}`;
  svg.setAttribute("aria-label", told);
  svg.append(draw("line", "base", { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }));
  if (threshold != null) {
    svg.append(draw("line", "threshold", { x1: 0, x2: WIDTH, y1: y(threshold), y2: y(threshold) }));
  }
  svg.append(draw("path", "curve", { d: path }));
  if (suspicious) svg.append(draw("path", "mark suspicious", { d: suspicious }));
  if (anomalous) svg.append(draw("path", "mark anomalous", { d: anomalous }));
  return svg;
}

function timeAxis(state) {
  const axis = make("div", "times");
  const start = state.first_part * state.part_s * 1000;
  const length = state.n_parts * state.part_s * 1000;
  const form = state.span === "week"
    ? { weekday: "short", hour: "2-digit" } : { hour: "2-digit", minute: "2-digit" };
  for (const share of [0, 0.5, 1]) {
    axis.append(make("span", "", new Date(start + share * length).toLocaleString([], form)));
  }
  return axis;
}

function showMachine(card, machine, state) {
  const latest = machine.latest;
  card.className = machine.alarm_since ? "in-alarm" : "";
  const text = machine.alarm_since ? `alarm since ${when(machine.alarm_since)}` : STATES[machine.state] || machine.state;
  const tone = machine.alarm_since ? "alarm" : TONES[machine.state] || "other";
  const top = make("div", "top");
  top.append(make("h3", "", machine.machine), make("span", `state ${tone}`, text));
  const pairs = [
    ["score", figure(latest && latest.score)], ["threshold", figure(latest && latest.threshold)],
    ["level", machine.level_db == null ? "–" : `${Math.round(machine.level_db)} dB`],
    ["last audio", when(machine.last_audio_at)],
  ];
  const parts = [top, facts(pairs)];
  if (machine.points.length) parts.push(chart(machine, state), timeAxis(state));
  else parts.push(make("p", "dim", `No window was judged in the last ${state.span}.`));
  card.replaceChildren(...parts);
}

function alarmFile(path) {
  return "alarms/" + path.split("/").map(encodeURIComponent).join("/");
}

function createAlarm(alarm) {
  const article = make("article");
  article.id = `alarm-${alarm.id}`;
  const top = make("div", "top");
  const link = make("a", "", when(alarm.at));
  link.href = `#${encodeURIComponent(article.id)}`;
  const title = make("h3", "", `${alarm.machine || alarm.source || ""}: ${KINDS[alarm.kind] || "alarm"}`);
  const moment = make("span", "dim");
  moment.append(link);
  top.append(title, moment);
  article.append(top, make("p", "sentence", alarm.sentence || ""));
  const pairs = [
    ["score", alarm.score], ["threshold", alarm.threshold], ["p-value", alarm.p_value],
    ["expected false alarms per day", alarm.false_alarms_per_day],
  ].filter(([, value]) => value != null).map(([name, value]) => [name, figure(value)]);
  if (alarm.recording) pairs.push(["recording", alarm.recording]);
  if (pairs.length) article.append(facts(pairs));
  if (alarm.reason && !(alarm.sentence || "").includes(alarm.reason)) article.append(make("p", "", alarm.reason));
  const evidence = make("div", "evidence");
  if (alarm.sound) {
    const sound = make("audio");
    sound.controls = true;
    sound.preload = "none";
    sound.setAttribute("aria-label", `sound of the alarm of ${alarm.machine} at ${when(alarm.at)}`);
    sound.src = alarmFile(alarm.sound);
    sound.addEventListener("error", () => sound.replaceWith(make("p", "dim", "The sound is not kept any more.")));
    evidence.append(sound);
  }
  if (alarm.picture) {
    const picture = make("img");
    picture.loading = "lazy";
    picture.alt = `how the sound differs from normal: ${alarm.reason || alarm.sentence || ""}`;
    picture.src = alarmFile(alarm.picture);
    picture.addEventListener("error", () => picture.replaceWith(make("p", "dim", "The picture is not kept any more.")));
    evidence.append(picture);
  }
  const id = make("p", "dim", "Alarm ");
  id.append(make("code", "", alarm.id));
  article.append(evidence, make("p", "dim ending"), id);
  return article;
}

function updateAlarm(article, alarm) {
  const ending = article.querySelector(".ending");
  const isOver = Boolean(alarm.ended_at);
  article.classList.toggle("in-alarm", !isOver);
  ending.replaceChildren(isOver ? `Over since ${when(alarm.ended_at)}.` : "It goes on.");
  if (alarm.feedback) ending.append(" A person called it ", make("span", "feedback", alarm.feedback), ".");
}

function deliveryText(delivery) {
  const parts = [`${delivery.delivered} delivered`];
  if (delivery.waiting) parts.push(`${delivery.waiting} waiting`);
  if (delivery.refused) parts.push(`${delivery.refused} refused`);
  if (delivery.dropped) parts.push(`${delivery.dropped} dropped, because too many waited`);
  if (delivery.problem) parts.push(`failing since ${when(delivery.failing_since)}: ${delivery.problem}`);
  return parts.join(", ");
}

function showDelivery(item, delivery) {
  item.replaceChildren(make("b", "", delivery.sink), ` ${deliveryText(delivery)}`);
}

function showNews(item, message) {
  const name = message.machine || message.source || "";
  item.replaceChildren(
    make("b", "", `${KINDS[message.kind] || message.kind}: ${name} `),
    make("span", "dim", when(message.at)), make("br"), message.sentence || "",
  );
}

function summary(state) {
  const inAlarm = state.machines.filter((machine) => machine.alarm_since).length;
  document.title = inAlarm ? `(${inAlarm}) Watched machines` : "Watched machines";
  if (!state.machines.length) return "No machine was heard yet.";
  const count = `${state.machines.length} ${state.machines.length === 1 ? "machine" : "machines"}`;
  return inAlarm ? `${count}, ${inAlarm} in alarm` : `${count}, none in alarm`;
}

/* A watch that has just begun is drawn from its first score on. */
function zoom(state) {
  const firsts = state.machines.filter((m) => m.points.length).map((m) => m.points[0][0]);
  const end = state.first_part + state.n_parts;
  const first = Math.min(...firsts, end - FEWEST_PARTS);
  state.first_part = Math.max(state.first_part, first);
  state.n_parts = end - state.first_part;
}

function show(state) {
  zoom(state);
  const text = summary(state);
  if (byId("summary").textContent !== text) byId("summary").textContent = text;
  const machines = [...state.machines].sort((a, b) => Number(!a.alarm_since) - Number(!b.alarm_since));
  reconcile(byId("machines"), machines, (m) => m.machine, () => make("article"), (card, m) => showMachine(card, m, state));
  if (state.alarms.length) byId("alarms").querySelector(":scope > p")?.remove();
  reconcile(byId("alarms"), state.alarms, (alarm) => alarm.id, createAlarm, updateAlarm);
  if (!state.alarms.length) byId("alarms").replaceChildren(make("p", "dim", "There was no alarm yet."));
  byId("news-section").hidden = !state.news.length;
  reconcile(byId("news"), state.news, (message) => message.id, () => make("li"), showNews);
  byId("deliveries-section").hidden = !state.deliveries.length;
  reconcile(byId("deliveries"), state.deliveries, (d) => d.sink, () => make("li"), showDelivery);
}

function showTrouble(text) {
  const trouble = byId("trouble");
  const since = lastAnswer ? ` What is shown is from ${when(lastAnswer)}.` : "";
  const told = text && text + since;
  if (trouble.textContent !== told) trouble.textContent = told;
  trouble.hidden = !text;
}

async function update() {
  clearTimeout(timer);
  const asked = span;
  try {
    const answer = await fetch(`state.json?span=${asked}`, { signal: AbortSignal.timeout(LIMIT_MS) });
    if (!answer.ok) throw new Error(`The watch answers: ${(await answer.text()).trim()}.`);
    const state = await answer.json();
    if (asked !== span) return;
    show(state);
    lastAnswer = new Date().toISOString();
    showTrouble("");
  } catch (error) {
    showTrouble(error.message.startsWith("The watch") ? error.message : "The watch does not answer. Is it running?");
  } finally {
    clearTimeout(timer);
    timer = setTimeout(update, EVERY_MS);
  }
}

for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => {
    span = button.dataset.span;
    for (const each of document.querySelectorAll("[data-span]")) {
      each.setAttribute("aria-pressed", String(each === button));
    }
    update();
  });
}
document.addEventListener("visibilitychange", () => document.hidden || update());

update().then(() => location.hash && byId(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView());
