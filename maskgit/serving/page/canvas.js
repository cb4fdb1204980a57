// The easel: a picture to brush over, to draw a box in, to extend or to vary; with the keyboard too.
"use strict";

import { about, askOnce } from "./asking.js";
import { $, $$, changed, state, whenChanged } from "./controls.js";

const HINTS = {
  brush: "Brush over what shall be drawn anew. By keyboard: arrows move, Space paints a cell.",
  box: "Drag a box, and choose what is drawn in it. By keyboard: arrows move, Space sets a corner.",
  extend: "Cells to draw at each edge.",
  vary: "A share of the picture stays, the rest is drawn anew.",
};
const VERBS = { brush: "Fill", box: "Swap", extend: "Extend", vary: "Vary" };

export const editing = {
  image: null, // an <img> of the picture as it is now
  name: "",
  tool: about.places ? "brush" : "vary",
  mask: null, // a byte a pixel, 1 where it is painted
  box: null, // left, top, right, bottom in pixels
  cursor: null, // left, top of a cell, while the keyboard is used
  corner: null,
  versions: [],
};
let say = () => {};
let replaced = () => {}; // told whenever another picture is on the easel
let zoom = 1;
let shown = null; // an <img> of a round, while it is drawn

export const verb = () => VERBS[editing.tool];
const canvas = $("#canvas");

function loaded(address) {
  return new Promise((done, failed) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => failed(new Error("This picture cannot be shown"));
    image.src = address;
  });
}

// -- which picture -------------------------------------------------------------------------------

async function use(address) {
  const image = await loaded(address);
  editing.image = image;
  shown = null;
  editing.mask = new Uint8Array(image.naturalWidth * image.naturalHeight);
  editing.box = editing.cursor = editing.corner = null;
  $("#no-picture").hidden = true;
  $("#stage").hidden = false;
  render();
  replaced();
}

export async function pick(address, label, name) {
  editing.versions = [address];
  editing.name = name;
  $("#as").value = label;
  await use(address);
  showVersions();
}

export async function setResult(address) {
  editing.versions.push(address);
  await use(address);
  showVersions();
}

export async function showRound(address) {
  const image = await loaded(address);
  if (!document.body.classList.contains("busy")) return; // it came after the last one
  shown = image;
  render();
}

function showVersions() {
  const made = editing.versions.map((address, number) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "version" });
    const picture = Object.assign(document.createElement("img"), { src: address, alt: number ? `after ${number} change${number > 1 ? "s" : ""}` : "the first picture" });
    picture.className = about.size < 64 ? "small" : "";
    button.setAttribute("aria-current", number === editing.versions.length - 1);
    button.append(picture);
    button.addEventListener("click", () => {
      editing.versions = editing.versions.slice(0, number + 1);
      use(address).then(showVersions);
    });
    return button;
  });
  $("#versions").replaceChildren(...(made.length > 1 ? made : []));
  $("#undo").disabled = editing.versions.length < 2;
}

async function openFile(file) {
  if (file.size > about.limits.file_bytes) {
    say(`The file is larger than ${about.limits.file_bytes / 2 ** 20} MB`, true);
    return;
  }
  const address = await new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(file);
  });
  try {
    const found = await askOnce("open", [JSON.stringify({ image: address })]);
    await pick(found.image, Number($("#as").value), file.name);
    say(`${file.name}, as the model sees it: choose below what to draw it as`);
  } catch (error) {
    say(error.message, true);
  }
}

// -- what is painted -----------------------------------------------------------------------------

const width = () => editing.image.naturalWidth;
const height = () => editing.image.naturalHeight;

function paint(x, y, radius) {
  for (let row = Math.max(0, Math.floor(y - radius)); row < Math.min(height(), y + radius); row++) {
    for (let column = Math.max(0, Math.floor(x - radius)); column < Math.min(width(), x + radius); column++) {
      if ((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2 <= radius ** 2) editing.mask[row * width() + column] = 1;
    }
  }
}

function paintCell([x, y]) {
  for (let row = y; row < y + about.cell; row++) editing.mask.fill(1, row * width() + x, row * width() + x + about.cell);
}

// the cells that hold something painted: these are drawn anew as a whole
function cells() {
  const found = [];
  const f = about.cell;
  for (let y = 0; y < height(); y += f) {
    for (let x = 0; x < width(); x += f) {
      let painted = false;
      for (let row = y; row < y + f && !painted; row++) {
        painted = editing.mask.subarray(row * width() + x, row * width() + x + f).includes(1);
      }
      if (painted) found.push([x, y]);
    }
  }
  return found;
}

function maskFile() {
  const file = Object.assign(document.createElement("canvas"), { width: width(), height: height() });
  const pen = file.getContext("2d");
  const pixels = pen.createImageData(width(), height());
  editing.mask.forEach((painted, place) => pixels.data.set([255 * painted, 255 * painted, 255 * painted, 255], 4 * place));
  pen.putImageData(pixels, 0, 0);
  return file.toDataURL("image/png");
}

function pictureFile() {
  return editing.versions[editing.versions.length - 1];
}

export function editAsked(settings) {
  const asked = { image: pictureFile(), label: Number($("#as").value), seed: state.seed, ...settings };
  const cell = (id) => about.cell * Number($(id).value);
  if (editing.tool === "brush") {
    if (!editing.mask.includes(1)) throw new Error("Brush over what shall be drawn anew first");
    return { ...asked, what: "inpaint", mask: maskFile() };
  }
  if (editing.tool === "box") {
    if (!editing.box) throw new Error("Drag a box first");
    return { ...asked, what: "inpaint", box: editing.box };
  }
  if (editing.tool === "extend") {
    const margins = ["#left", "#top", "#right", "#bottom"].map(cell);
    if (!margins.some(Boolean)) throw new Error("Say first how many cells, at one edge at least");
    return { ...asked, what: "outpaint", margins };
  }
  return { ...asked, what: "variation", keep: Number($("#keep").value) / 100 };
}

// -- what is seen --------------------------------------------------------------------------------

function render() {
  if (!editing.image) return;
  const picture = shown || editing.image;
  const [w, h] = [picture.naturalWidth, picture.naturalHeight];
  zoom = Math.max(1, Math.floor(560 / Math.max(w, h)));
  Object.assign(canvas, { width: w * zoom, height: h * zoom });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = Math.max(w, h) >= 64;
  pen.drawImage(picture, 0, 0, w * zoom, h * zoom);
  if (!shown) renderMarks(pen);
  const painted = editing.tool === "brush" ? `, ${cells().length} cells painted` : "";
  canvas.setAttribute("aria-label", `${editing.name}, ${w} by ${h} pixels${painted}`);
}

function renderMarks(pen) {
  const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  const f = about.cell * zoom;
  pen.lineWidth = 2;
  if (editing.tool === "brush") {
    pen.fillStyle = accent;
    pen.globalAlpha = 0.5;
    for (const [x, y] of cells()) pen.fillRect(x * zoom, y * zoom, f, f);
    pen.globalAlpha = 1;
  }
  if (editing.tool === "box" && editing.box) {
    const [left, top, right, bottom] = editing.box.map((side) => side * zoom);
    pen.strokeStyle = accent;
    pen.lineWidth = 3;
    pen.strokeRect(left + 1.5, top + 1.5, right - left - 3, bottom - top - 3);
    pen.fillStyle = accent;
    pen.globalAlpha = 0.2;
    pen.fillRect(left, top, right - left, bottom - top);
    pen.globalAlpha = 1;
  }
  if (editing.cursor && document.activeElement === canvas) {
    pen.strokeStyle = "#fff";
    pen.strokeRect(editing.cursor[0] * zoom + 1, editing.cursor[1] * zoom + 1, f - 2, f - 2);
    pen.setLineDash([4, 4]);
    pen.strokeStyle = "#000";
    pen.strokeRect(editing.cursor[0] * zoom + 1, editing.cursor[1] * zoom + 1, f - 2, f - 2);
    pen.setLineDash([]);
  }
}

// -- pointer and keyboard ------------------------------------------------------------------------

function at(event) {
  const place = canvas.getBoundingClientRect();
  return [((event.clientX - place.left) / place.width) * width(), ((event.clientY - place.top) / place.height) * height()];
}

function boxOf([x0, y0], [x1, y1]) {
  const f = about.cell;
  const low = (value, most) => Math.max(0, Math.min(most - f, Math.floor(value / f) * f));
  const high = (value, most) => Math.max(f, Math.min(most, Math.ceil(value / f) * f));
  const [left, top] = [low(Math.min(x0, x1), width()), low(Math.min(y0, y1), height())];
  return [left, top, Math.max(left + f, high(Math.max(x0, x1), width())), Math.max(top + f, high(Math.max(y0, y1), height()))];
}

function listen() {
  let from = null;
  const draw = (event) => {
    if (editing.tool === "brush") paint(...at(event), (Number($("#size").value) * about.size) / 64);
    if (editing.tool === "box") editing.box = boxOf(from, at(event));
    render();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!editing.image || event.button) return;
    shown = null;
    from = at(event);
    editing.cursor = null;
    canvas.setPointerCapture(event.pointerId);
    draw(event);
  });
  canvas.addEventListener("pointermove", (event) => { if (from) draw(event); });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!editing.image || (!step && event.key !== " ")) return;
    event.preventDefault();
    const f = about.cell;
    const [x, y] = editing.cursor || [0, 0];
    if (!editing.cursor) editing.cursor = [0, 0];
    else if (step) editing.cursor = [Math.max(0, Math.min(width() - f, x + step[0] * f)), Math.max(0, Math.min(height() - f, y + step[1] * f))];
    if (event.key === " ") key();
    render();
  });
  canvas.addEventListener("blur", render);
}

function key() {
  const [x, y] = editing.cursor;
  const middle = [x + about.cell / 2, y + about.cell / 2];
  if (editing.tool === "brush") paintCell(editing.cursor);
  if (editing.tool === "box") {
    editing.box = boxOf(editing.corner || middle, middle);
    editing.corner = editing.corner ? null : middle;
  }
}

// -- the whole -----------------------------------------------------------------------------------

function showTool() {
  for (const part of $$("[data-tool]")) part.hidden = part.dataset.tool !== editing.tool;
  $("#hint").textContent = HINTS[editing.tool];
  $("output[for=keep]").textContent = `${$("#keep").value} %`;
  render();
}

export function makeEasel(tell, tellReplaced) {
  say = tell;
  replaced = tellReplaced;
  if (!about.places) {
    for (const choice of $$("[name=tool]")) choice.parentElement.hidden = choice.value !== "vary";
    HINTS.vary = `${HINTS.vary} (This model's codes have no places: parts cannot be drawn alone.)`;
  }
  for (const choice of $$("[name=tool]")) {
    choice.checked = choice.value === editing.tool;
    choice.addEventListener("change", () => { editing.tool = choice.value; showTool(); changed(); });
  }
  $("#keep").addEventListener("input", showTool);
  $("#clear").addEventListener("click", () => { if (editing.mask) editing.mask.fill(0); render(); });
  $("#open").addEventListener("click", () => $("#file").click());
  $("#file").addEventListener("change", () => { const [file] = $("#file").files; if (file) openFile(file); $("#file").value = ""; });
  $("#undo").addEventListener("click", () => { editing.versions.pop(); use(pictureFile()).then(showVersions); });
  for (const name of ["dragover", "drop"]) {
    $("#easel").addEventListener(name, (event) => {
      event.preventDefault();
      const [file] = (event.dataTransfer && event.dataTransfer.files) || [];
      if (name === "drop" && file) openFile(file);
    });
  }
  listen();
  whenChanged(showTool);
  showTool();
}
