// The page of `trackdl demo`: a paper to draw on, and a card for each model. It requests /models and /look only.
"use strict";

const paper = document.getElementById("paper");
const pen = paper.getContext("2d", { willReadFrequently: true });
const hint = document.getElementById("hint");
const undo = document.getElementById("undo");
const file = document.getElementById("file");
const message = document.getElementById("message");
const spoken = document.getElementById("spoken");
const dropping = document.getElementById("dropping");
const cards = new Map();

const WIDTH = 24; // of the pen; the paper is 392 wide, 14 times an MNIST network's input
const SHOWN = 20; // classes of a model at most
const STEP = 14; // of an arrow key, in pixels
let strokes = []; // lists of points, oldest first
let picture = null; // an image file that was given instead of a drawing
let stroke = null;
let cursor = null;
let asked = 0;
let timer = 0;

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

function paint() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, paper.width, paper.height);
  if (picture) {
    const scale = Math.min(paper.width / picture.width, paper.height / picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    pen.drawImage(picture, (paper.width - width) / 2, (paper.height - height) / 2, width, height);
  }
  pen.strokeStyle = pen.fillStyle = "#000";
  pen.lineWidth = WIDTH;
  pen.lineCap = pen.lineJoin = "round";
  for (const points of strokes) {
    pen.beginPath();
    pen.moveTo(...points[0]);
    for (const point of points.length > 1 ? points.slice(1) : points) pen.lineTo(...point);
    pen.stroke();
  }
  const empty = !strokes.length && !picture;
  hint.hidden = !empty || cursor !== null;
  undo.disabled = empty;
}

// The keyboard's pen is shown on the paper only; it is not sent.
function paintCursor() {
  paint();
  if (!cursor) return;
  pen.strokeStyle = "#1f5fd0";
  pen.lineWidth = 3;
  pen.beginPath();
  pen.arc(cursor[0], cursor[1], WIDTH / 2, 0, 7);
  pen.stroke();
}

function place(event) {
  const box = paper.getBoundingClientRect();
  return [((event.clientX - box.left) * paper.width) / box.width, ((event.clientY - box.top) * paper.height) / box.height];
}

function startOver() {
  strokes = [];
  picture = null;
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  paper.focus({ preventScroll: true });
  paper.setPointerCapture(event.pointerId);
  cursor = null;
  if (picture) startOver();
  stroke = [place(event)];
  strokes.push(stroke);
  paint();
});
paper.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const each of events.length ? events : [event]) stroke.push(place(each));
  paint();
});
for (const name of ["pointerup", "pointercancel"]) {
  paper.addEventListener(name, () => {
    if (!stroke) return;
    stroke = null;
    askSoon();
  });
}

const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
let keyed = null;
paper.addEventListener("keydown", (event) => {
  const move = ARROWS[event.key];
  if (move) {
    event.preventDefault();
    const from = cursor || [paper.width / 2, paper.height / 2];
    cursor = [0, 1].map((axis) => Math.min(Math.max(from[axis] + move[axis], WIDTH), paper.width - WIDTH));
    if (event.shiftKey) {
      if (picture) startOver();
      if (!keyed) strokes.push((keyed = [from]));
      keyed.push(cursor);
      askSoon();
    } else keyed = null;
    paintCursor();
  } else if (event.key === "Backspace") takeBack();
  else if (event.key === "Delete") clear();
  else return;
  event.preventDefault();
});
paper.addEventListener("keyup", (event) => {
  if (event.key === "Shift") keyed = null;
});
paper.addEventListener("blur", () => {
  cursor = keyed = null;
  paint();
});

function clear() {
  startOver();
  keyed = null;
  paintCursor();
  asked += 1;
  clearTimeout(timer);
  message.textContent = "";
  for (const card of cards.values()) idle(card);
}

function takeBack() {
  keyed = null;
  if (strokes.length) strokes.pop();
  else picture = null;
  if (!strokes.length && !picture) clear();
  else {
    paintCursor();
    askSoon();
  }
}

document.getElementById("clear").addEventListener("click", clear);
undo.addEventListener("click", takeBack);
document.getElementById("choose").addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  if (file.files.length) show(file.files[0]);
  file.value = "";
});
document.addEventListener("paste", (event) => {
  const item = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (item) show(item);
});
let over = 0;
const carriesFile = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (carriesFile(event)) dropping.hidden = !(over += 1);
});
document.addEventListener("dragleave", (event) => {
  if (carriesFile(event)) dropping.hidden = !(over = Math.max(0, over - 1));
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  dropping.hidden = true;
  if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
});

// An image file is sent unchanged; the paper only shows it, if the browser can decode it.
async function show(given) {
  clear();
  try {
    picture = await createImageBitmap(given);
  } catch {
    picture = null;
  }
  paint();
  ask(given);
}

function askSoon() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    const clean = cursor;
    cursor = null;
    paint();
    paper.toBlob((blob) => ask(blob), "image/png");
    cursor = clean;
    paintCursor();
  }, 120);
}

async function ask(content) {
  const mine = (asked += 1);
  for (const card of cards.values()) card.classList.add("waiting");
  let answers;
  let problem = "";
  try {
    const response = await fetch("/look", { method: "POST", body: content, headers: { "content-type": "application/octet-stream" } });
    answers = await response.json();
    problem = response.ok ? "" : answers.message;
  } catch {
    problem = "The demo does not answer. Is `trackdl demo` still running?";
  }
  if (mine !== asked) return; // a later drawing has been sent since
  message.textContent = problem;
  message.className = problem ? "wrong" : "";
  for (const card of cards.values()) {
    card.classList.remove("waiting");
    if (problem) idle(card);
  }
  if (problem) return;
  for (const answer of answers) fill(cards.get(answer.name), answer);
  spoken.textContent = answers
    .filter((answer) => !answer.problem)
    .map((answer) => `${answer.name}: ${answer.label}, ${percent(answer.probabilities[answer.label])}${answer.unfamiliar ? ", unfamiliar" : ""}`)
    .join("; ");
}

function percent(share) {
  if (share > 0.999 && share < 1) return "> 99.9 %";
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(share * 100).toFixed(share === 1 ? 0 : 1)} %`;
}

function first(names) {
  return names.length > SHOWN ? `${names.slice(0, SHOWN).join(", ")}, and ${names.length - SHOWN} more` : names.join(", ");
}

function idle(card) {
  if (!card.model.problem) card.body.replaceChildren(make("p", `Classes: ${first(card.model.classes)}`, "idle"));
  card.classList.remove("waiting");
}

function fill(card, answer) {
  if (answer.problem) {
    card.body.replaceChildren(make("p", answer.problem, "wrong"));
    return;
  }
  const seen = make("canvas");
  const size = answer.size;
  const channels = answer.shown.length / size ** 2;
  seen.width = seen.height = size;
  seen.setAttribute("role", "img");
  seen.setAttribute("aria-label", `The input of ${answer.name}`);
  const context = seen.getContext("2d");
  const image = context.createImageData(size, size);
  for (let index = 0; index < size ** 2; index += 1) {
    const tones = answer.shown.slice(index * channels, (index + 1) * channels);
    image.data.set([tones[0], tones.at(1) ?? tones[0], tones.at(2) ?? tones[0], 255], index * 4);
  }
  context.putImageData(image, 0, 0);
  const figure = make("figure");
  figure.append(seen, make("figcaption", `the network's input, ${size}×${size} (preprocessing: ${answer.preprocessing})`));

  const prediction = make("div");
  prediction.append(
    make("p", answer.label, answer.label.length > 3 ? "label long" : "label"),
    make("p", `probability ${percent(answer.probabilities[answer.label])}`, "sure"),
  );
  if (answer.unfamiliar) prediction.append(make("p", "unfamiliar: unlike what the network has learnt", "sure"));
  let classes = Object.entries(answer.probabilities);
  if (classes.length > SHOWN) classes = classes.sort((one, other) => other[1] - one[1]).slice(0, SHOWN);
  const bars = make("ul", undefined, "bars");
  for (const [name, share] of classes) {
    const line = make("li", undefined, name === answer.label ? "best" : "");
    const bar = make("i");
    bar.style.width = `${share * 100}%`;
    line.append(make("span", name), bar, make("b", percent(share)));
    bars.append(line);
  }
  card.body.replaceChildren(figure, prediction, bars);
}

async function list() {
  const place = document.getElementById("models");
  let models;
  try {
    models = await (await fetch("/models")).json();
  } catch {
    message.textContent = "The demo does not answer. Is `trackdl demo` still running?";
    message.className = "wrong";
    return;
  }
  if (!models.length) {
    message.textContent = "No image model is registered yet. `trackdl mnist` trains and registers the first, `trackdl main` all. Then start the demo again.";
    return;
  }
  for (const model of models) {
    const card = make("article");
    card.model = model;
    card.dataset.model = model.name;
    const head = make("h3", model.name);
    head.append(make("small", [model.version && `version ${model.version}`, model.score].filter(Boolean).join(" · ")));
    card.body = make("div", undefined, "body");
    card.append(head, card.body);
    if (model.problem) card.body.replaceChildren(make("p", model.problem, "wrong"));
    else cards.set(model.name, card);
    place.append(card);
    idle(card);
  }
}

paint();
list();
