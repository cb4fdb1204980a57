// The column of controls: what is chosen, as an object; the same in the address of the page.
"use strict";

import { about, askOnce } from "./asking.js";

export const $ = (query, root = document) => root.querySelector(query);
export const $$ = (query, root = document) => [...root.querySelectorAll(query)];
const KEYS = ["preset", "sampler", "steps", "guidance", "temperature"];
const NUMBERS = new Set(["steps", "guidance", "temperature"]);
const SHOWN_CLASSES = 48;
const SLOW_THUMBNAILS = 8000; // milliseconds of a dozen, after which no more are asked for

const many = about.classes.length;
const few = Math.min(5, many, about.limits.images); // of the classes
const perLabel = about.size > 100 ? 2 : many > 6 ? 4 : 6;
export const state = {
  view: "draw",
  labels: [...Array(few).keys()],
  perLabel: Math.min(perLabel, Math.floor(about.limits.images / few)),
  seed: 0,
  a: {},
  b: { guidance: about.guided ? 1 : undefined, steps: about.guided ? undefined : 1 },
};

const listeners = [];
export const whenChanged = (what) => listeners.push(what);
export function changed() {
  const address = link();
  if (address !== location.href) history.replaceState(null, "", address);
  for (const listener of listeners) listener();
}

// -- the address ---------------------------------------------------------------------------------

export function link() {
  const found = new URLSearchParams();
  if (state.view !== "draw") found.set("view", state.view);
  const twice = (name) => about.classes.indexOf(name) !== about.classes.lastIndexOf(name);
  for (const label of state.labels) {
    const name = about.classes[label];
    found.append("class", twice(name) || name.startsWith("#") ? `#${label}` : name);
  }
  found.set("n", state.perLabel);
  found.set("seed", state.seed);
  for (const side of state.view === "compare" ? ["a", "b"] : ["a"]) {
    for (const key of KEYS) {
      const value = state[side][key];
      if (value !== undefined) found.set(side === "a" ? key : `b.${key}`, value);
    }
  }
  return `${location.origin}${location.pathname}?${found}`;
}

function within(text, least, most) {
  const value = text === null || text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(value) && value >= least && value <= most ? value : undefined;
}

// what does not fit is left as it was, and named
export function readLink() {
  const given = new URLSearchParams(location.search);
  const wrong = [];
  if (["draw", "compare", "edit"].includes(given.get("view"))) state.view = given.get("view");
  const labels = given.getAll("class").map((word) => {
    const label = word.startsWith("#") ? Number(word.slice(1)) : about.classes.indexOf(word);
    const known = Number.isInteger(label) && label >= 0 && label < many;
    if (!known) wrong.push(`no class ${word.slice(0, 40)}`);
    return known ? label : null;
  }).filter((label) => label !== null);
  if (labels.length) state.labels = [...new Set(labels)].slice(0, about.limits.images);
  const read = (name, key, least, most, whole, side) => {
    if (!given.has(name)) return;
    const value = within(given.get(name), least, most);
    if (value === undefined || (whole && !Number.isInteger(value))) wrong.push(`${name} of ${given.get(name).slice(0, 20)}`);
    else side[key] = value;
  };
  read("n", "perLabel", 1, about.limits.images, true, state);
  read("seed", "seed", 0, about.limits.seed - about.limits.images, true, state);
  for (const side of ["a", "b"]) {
    const name = (key) => (side === "a" ? key : `b.${key}`);
    if (side === "b" && KEYS.some((key) => given.has(name(key)))) state.b = {};
    read(name("steps"), "steps", 1, about.limits.rounds, true, state[side]);
    if (about.guided) read(name("guidance"), "guidance", 0, 20, false, state[side]);
    read(name("temperature"), "temperature", 0, 5, false, state[side]);
    const named = { sampler: about.samplers, preset: Object.keys(about.presets) };
    for (const [key, known] of Object.entries(named)) {
      const value = given.get(name(key));
      if (value === null) continue;
      if (known.includes(value)) state[side][key] = value;
      else wrong.push(`no ${key} ${value.slice(0, 40)}`);
    }
  }
  return wrong;
}

// -- what is asked of the server -----------------------------------------------------------------

export function settings(side) {
  return Object.fromEntries(KEYS.filter((key) => state[side][key] !== undefined).map((key) => [key, state[side][key]]));
}

// -- classes -------------------------------------------------------------------------------------

const thumbnails = new Map();
let tooSlow = false;

function chip(label) {
  const made = document.createElement("label");
  made.className = "chip";
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: state.labels.includes(label) });
  const picture = Object.assign(document.createElement("img"), { alt: "", width: 36, height: 36 });
  picture.className = about.size < 64 ? "small" : "";
  if (thumbnails.has(label)) picture.src = thumbnails.get(label);
  picture.dataset.label = label;
  const name = Object.assign(document.createElement("span"), { textContent: about.classes[label] });
  box.addEventListener("change", () => {
    state.labels = box.checked ? [...state.labels, label].sort((x, y) => x - y) : state.labels.filter((other) => other !== label);
    changed();
  });
  made.append(box, picture, name);
  return made;
}

export function showClasses() {
  const wanted = $("#find").value.trim().toLowerCase();
  const all = [...about.classes.keys()];
  const found = all.filter((label) => about.classes[label].toLowerCase().includes(wanted));
  const chosen = wanted ? [] : state.labels;
  const shown = [...new Set([...chosen, ...found])].slice(0, SHOWN_CLASSES);
  if (all.length <= SHOWN_CLASSES) shown.sort((x, y) => x - y);
  $("#chips").replaceChildren(...shown.map(chip));
  const left = new Set([...chosen, ...found]).size - shown.length;
  $("#more").hidden = !(left > 0 || !found.length);
  $("#more").textContent = found.length ? `… and ${left} more: type a part of a name` : "No class is called so";
  askThumbnails();
}

let asking = false;
export async function askThumbnails() {
  if (asking || tooSlow) return;
  asking = true;
  try {
    for (;;) {
      const missing = $$("#chips img").map((picture) => Number(picture.dataset.label)).filter((label) => !thumbnails.has(label));
      if (!missing.length || tooSlow || document.body.classList.contains("busy")) break;
      const start = performance.now();
      const labels = missing.slice(0, about.limits.thumbnails);
      const found = await askOnce("thumbs", [JSON.stringify({ labels })]);
      labels.forEach((label, place) => setThumbnail(label, found[place]));
      tooSlow = performance.now() - start > SLOW_THUMBNAILS;
    }
  } catch {
    tooSlow = true; // they are an ornament: names do without
  } finally {
    asking = false;
  }
}

export function setThumbnail(label, address) {
  thumbnails.set(label, address);
  for (const picture of $$(`#chips img[data-label="${label}"]`)) picture.src = address;
}

// -- settings ------------------------------------------------------------------------------------

function options(select, own, names) {
  const first = Object.assign(document.createElement("option"), { value: "", textContent: own });
  select.replaceChildren(first, ...names.map((name) => Object.assign(document.createElement("option"), { value: name, textContent: name })));
}

function makeSettings(box) {
  const side = box.dataset.side;
  box.append($("#settings").content.cloneNode(true));
  const presets = Object.keys(about.presets);
  options($("[data-set=preset]", box), "none", presets);
  $("[data-key=preset]", box).hidden = !presets.length;
  $("[data-key=guidance]", box).hidden = !about.guided;
  $("[data-set=steps]", box).max = about.limits.rounds;
  for (const input of $$("[data-set]", box)) {
    input.addEventListener("input", () => {
      const key = input.dataset.set;
      state[side][key] = input.value === "" ? undefined : NUMBERS.has(key) ? Number(input.value) : input.value;
      if (key === "preset") state[side] = { preset: state[side].preset };
      changed();
    });
  }
  $(".reset", box).addEventListener("click", () => { state[side] = {}; changed(); });
}

function showSettings(box) {
  const given = state[box.dataset.side];
  const base = about.presets[given.preset] || about.own;
  options($("[data-set=sampler]", box), `${base.sampler} (${given.preset ? "the preset's" : "its own"})`, about.samplers);
  for (const input of $$("[data-set]", box)) {
    const key = input.dataset.set;
    if (!NUMBERS.has(key)) { input.value = given[key] || ""; continue; }
    const value = given[key] === undefined ? base[key] : given[key];
    if (value !== null && Number(input.max) < value) input.max = value;
    if (value !== null && Number(input.min) > value) input.min = value;
    input.value = value === null ? 1 : value;
    const output = $("output", input.parentElement);
    output.textContent = value === null ? "own" : key === "guidance" && value === 1 ? "none" : value;
    output.classList.toggle("own", given[key] === undefined);
  }
  $(".reset", box).hidden = !Object.values(given).some((value) => value !== undefined);
}

// -- all of it -----------------------------------------------------------------------------------

function number(input, key, least, most) {
  input.max = most;
  input.addEventListener("input", () => {
    const value = within(input.value, least, most);
    const fits = Number.isInteger(value);
    input.setCustomValidity(fits ? "" : `A whole number from ${least} to ${most}`);
    if (fits) { state[key] = value; changed(); }
  });
}

export function makeControls() {
  $$(".settings").forEach(makeSettings);
  const most = about.limits.seed - about.limits.images;
  number($("#per-label"), "perLabel", 1, about.limits.images);
  number($("#seed"), "seed", 0, most);
  $("#dice").addEventListener("click", () => { state.seed = Math.floor(Math.random() * 100000); changed(); });
  $("#find").addEventListener("input", showClasses);
  $("#find").addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); });
  $("#none").addEventListener("click", () => { state.labels = []; changed(); showClasses(); });
  $("#classes").classList.toggle("one", many < 2);
  $(".find").hidden = many < 9;
  $("#as").replaceChildren(...about.classes.map((name, label) => Object.assign(document.createElement("option"), { value: label, textContent: name })));
  for (const tab of $$("[data-view]")) {
    tab.addEventListener("click", () => { state.view = tab.dataset.view; changed(); });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const tabs = $$("[data-view]");
      const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
      next.focus();
      next.click();
    });
  }
  whenChanged(showControls);
}

export function showControls() {
  document.body.dataset.view = state.view;
  for (const tab of $$("[data-view]")) {
    const here = tab.dataset.view === state.view;
    tab.setAttribute("aria-selected", here);
    tab.tabIndex = here ? 0 : -1;
  }
  for (const part of $$("[data-in]")) part.hidden = !part.dataset.in.split(" ").includes(state.view);
  $(".settings[data-side=a] legend").textContent = state.view === "compare" ? "Settings A" : "Settings";
  $$(".settings").forEach(showSettings);
  for (const [input, value] of [[$("#per-label"), state.perLabel], [$("#seed"), state.seed]]) {
    if (document.activeElement !== input || Number(input.value) !== value) input.value = value;
    input.setCustomValidity("");
  }
  for (const box of $$("#chips .chip")) $("input", box).checked = state.labels.includes(Number($("img", box).dataset.label));
}
