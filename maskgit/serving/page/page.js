// The page: grids that fill, side by side where two settings are compared, and what to take away.
"use strict";

import { about, ask, askOnce, save } from "./asking.js";
import { $, $$, askThumbnails, changed, link, makeControls, readLink, setThumbnail, settings, showClasses, state, whenChanged } from "./controls.js";
import { editAsked, editing, makeEasel, pick, setResult, showRound, verb } from "./canvas.js";

const EMPTY = "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>";
let job = null; // of the drawing that is under way
let side = "a"; // of the results that are shown below
const results = { a: null, b: null, edit: null };

const say = (text, wrong = false) => {
  $("#status").textContent = text;
  $("#status").classList.toggle("wrong", wrong);
};

function busy(yes) {
  document.body.classList.toggle("busy", yes);
  $("#stop").hidden = !yes;
  if (!yes) askThumbnails();
}

// -- grids ---------------------------------------------------------------------------------------

function tile(label, seed) {
  const name = about.classes[label];
  const made = document.createElement("button");
  made.type = "button";
  made.className = "tile waiting";
  made.setAttribute("aria-label", `Edit ${name}, seed ${seed}`);
  made.title = `${name}, seed ${seed}: click to edit`;
  const picture = Object.assign(document.createElement("img"), { src: EMPTY, alt: `${name}, seed ${seed}` });
  picture.className = about.size < 64 ? "small" : "";
  made.append(picture);
  made.addEventListener("click", () => {
    if (made.classList.contains("waiting")) return;
    state.view = "edit";
    pick(picture.src, label, `${name}, seed ${seed}`);
    forgetEdit();
    say(`${name}, seed ${seed}`);
    changed();
    $("#canvas").focus();
  });
  return made;
}

function layOut(sheet, asked) {
  const rows = asked.labels.map((label, row) => {
    const made = document.createElement("div");
    made.className = "row";
    const name = Object.assign(document.createElement("h2"), { textContent: about.classes[label] });
    const line = document.createElement("div");
    line.className = "tiles";
    for (let i = 0; i < asked.per_label; i++) line.append(tile(label, asked.seed + row * asked.per_label + i));
    made.append(name, line);
    return made;
  });
  $(".rows", sheet).style.setProperty("--columns", asked.per_label);
  $(".rows", sheet).replaceChildren(...rows);
}

function fill(sheet, event) {
  const tiles = $$(".tile", sheet);
  event.images.forEach((address, place) => {
    const one = tiles[(event.first || 0) + place];
    if (!one) return;
    $("img", one).src = address;
    one.classList.toggle("waiting", !event.done);
  });
}

// -- drawing -------------------------------------------------------------------------------------

// each event of a request: how it goes is told, `shown` shows it; -> the last one, with its request
async function follow(name, asked, signal, title, shown) {
  const text = JSON.stringify(asked);
  let last = null;
  for await (const event of ask(name, [text], signal)) {
    if ("waiting" in event) {
      if (event.waiting > 0) say(`${title}waiting: ${event.waiting} before you`);
      continue;
    }
    if (event.round !== undefined) {
      const of = event.rounds ? ` of ${event.rounds}` : "";
      say(event.round ? `${title}round ${event.round}${of}` : `${title}drawing`);
      $("#progress").value = event.rounds ? event.round / event.rounds : 0;
    }
    shown(event);
    last = event;
  }
  if (!last || !last.done) throw new Error("The drawing ended early");
  return { ...last, text };
}

async function work(what) {
  if (job) job.abort();
  const own = (job = new AbortController());
  busy(true);
  $("#progress").value = 0;
  say("drawing");
  try {
    await what(own.signal);
  } catch (error) {
    if (job === own) say(own.signal.aborted ? "Stopped" : error.message, !own.signal.aborted);
  } finally {
    if (job === own) {
      job = null;
      $("#progress").value = 0;
      busy(false);
    }
  }
}

function drawAsked(which) {
  return { labels: state.labels, per_label: state.perLabel, seed: state.seed, ...settings(which) };
}

async function drawSide(which, signal) {
  const sheet = $(`#sheet-${which}`);
  const asked = drawAsked(which);
  const compare = state.view === "compare";
  results[which] = null;
  showAway();
  layOut(sheet, asked);
  $("figcaption", sheet).textContent = compare ? which.toUpperCase() : "";
  const title = compare ? `${which.toUpperCase()}: ` : "";
  const found = await follow("draw", asked, signal, title, (event) => event.images && fill(sheet, event));
  results[which] = found;
  asked.labels.forEach((label, row) => { if (which === "a" && !compare) setThumbnail(label, found.images[row * asked.per_label]); });
  const caption = `${found.settings} · ${found.seconds} s`;
  $("figcaption", sheet).textContent = `${which.toUpperCase()} · ${caption}`;
  const count = found.images.length;
  if (!compare || which === "b") say(compare ? `Both drawn, from seed ${asked.seed} on` : `${count} picture${count > 1 ? "s" : ""} · ${caption}`);
  showAway();
}

async function drawEdit(signal) {
  const asked = editAsked(settings("a"));
  forgetEdit();
  const found = await follow("edit", asked, signal, "", (event) => event.images && showRound(event.images[0]));
  await setResult(found.images[0]);
  results.edit = found;
  say(`${found.settings} · ${found.seconds} s`);
  showAway();
}

function go() {
  if (!$("#controls").reportValidity()) return;
  if (state.view === "edit") {
    if (!editing.image) { say("Choose a picture first", true); return; }
    work(drawEdit);
    return;
  }
  if (!state.labels.length) { say("Choose a class first", true); return; }
  if (state.labels.length * state.perLabel > about.limits.images) {
    say(`${state.labels.length} classes of ${state.perLabel} are more than ${about.limits.images} pictures`, true);
    return;
  }
  const both = state.view === "compare";
  if (both) for (const which of ["a", "b"]) layOut($(`#sheet-${which}`), drawAsked(which));
  work(async (signal) => {
    await drawSide("a", signal);
    if (both) await drawSide("b", signal);
  });
}

// -- what to take away ---------------------------------------------------------------------------

const shownResult = () => (state.view === "edit" ? results.edit : results[state.view === "compare" ? side : "a"]);

function showAway() {
  const found = shownResult();
  $("#away").hidden = !found;
  $("#which").hidden = state.view !== "compare";
  for (const button of $$("#which [data-side]")) button.setAttribute("aria-pressed", button.dataset.side === side);
  if (!found) return;
  $("#command").textContent = found.command;
  $("#python").textContent = found.python;
  for (const button of $$("[data-own]")) button.hidden = !found[button.dataset.own];
}

function forgetEdit() {
  results.edit = null;
  showAway();
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copy it by hand";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

async function download(button) {
  const found = shownResult();
  button.disabled = true;
  try {
    const file = await askOnce("file", [found.text, button.dataset.file]);
    save(file.address, file.name);
  } catch (error) {
    say(error.message, true);
  } finally {
    button.disabled = false;
  }
}

function makeAway() {
  for (const button of $$("[data-file]")) button.addEventListener("click", () => download(button));
  for (const button of $$("[data-own]")) button.addEventListener("click", () => save(shownResult()[button.dataset.own], `${button.dataset.own}.png`));
  for (const button of $$("[data-copy]")) button.addEventListener("click", () => copy($(`#${button.dataset.copy}`).textContent, button));
  for (const button of $$("#which [data-side]")) button.addEventListener("click", () => { side = button.dataset.side; showAway(); });
  $("#link").addEventListener("click", () => copy(link(), $("#link")));
}

// -- the whole -----------------------------------------------------------------------------------

function makeTheme() {
  const set = (theme) => { if (theme) document.documentElement.dataset.theme = theme; };
  try { set(localStorage.getItem("theme")); } catch { /* a browser without memory */ }
  $("#theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    set(now === "dark" ? "light" : "dark");
    try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* as above */ }
  });
}

function show() {
  const words = { draw: "Draw", compare: "Draw both", edit: verb() };
  $("#go").textContent = words[state.view];
  $("#sheets").hidden = state.view === "edit";
  $("#sheets").classList.toggle("two", state.view === "compare");
  for (const caption of $$("figcaption")) caption.hidden = state.view !== "compare";
  showAway();
}

function start() {
  const size = about.parameters >= 1e6 ? `${(about.parameters / 1e6).toFixed(1)} M` : `${Math.round(about.parameters / 1e3)} k`;
  const classes = about.classes.length > 1 ? `${about.classes.length} classes · ` : "";
  $("#about").textContent = `${classes}${about.size} × ${about.size} pixels · ${size} weights`;
  $("#same").open = matchMedia("(min-width: 56rem)").matches; // on a telephone the controls come first
  document.body.classList.toggle("clear", about.channels === 4);
  const wrong = readLink();
  makeControls();
  makeEasel(say, forgetEdit);
  makeAway();
  makeTheme();
  whenChanged(show);
  $("#controls").addEventListener("submit", (event) => {
    event.preventDefault();
    $("#warning").hidden = true;
    go();
  });
  $("#stop").addEventListener("click", () => job && job.abort());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) go();
    if (event.key === "Escape" && job) job.abort();
  });
  changed();
  showClasses();
  if (state.view === "edit") say("Choose a picture first");
  else go();
  $("#warning").hidden = !wrong.length;
  $("#warning").textContent = `This link asks for what is not here: ${wrong.join(", ")}`;
}

start();
