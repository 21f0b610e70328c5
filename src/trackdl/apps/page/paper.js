// The paper to draw on: strokes of a pen and an eraser, by pointer or keyboard, or an image that was given.

const paper = document.getElementById("paper");
const context = paper.getContext("2d", { willReadFrequently: true });
const hint = document.getElementById("hint");
const undo = document.getElementById("undo");
const eraser = document.getElementById("eraser");
const pen = document.getElementById("pen");
const width = document.getElementById("width");

const STEP = 14; // of an arrow key, in pixels; the paper is 392 wide, 14 times an MNIST network's input
let strokes = []; // {points, width, colour}, oldest first
let picture = null;
let stroke = null; // of the pointer, now
let keyed = null; // of the keyboard, now
let cursor = null; // the keyboard's pen
let changed = () => {};

export const isEmpty = () => !strokes.length && !picture;
export const isDrawing = () => stroke !== null;
export const blob = () => {
  paint(false);
  const made = new Promise((resolve) => paper.toBlob(resolve, "image/png"));
  paint();
  return made;
};

// `callback` is called after each change that is not made by `clear` or `show`.
export function start(callback) {
  changed = callback;
  paint();
}

export function clear() {
  strokes = [];
  picture = stroke = keyed = null;
  choose(pen);
  paint();
}

export function show(image) {
  clear();
  picture = image;
  paint();
}

// The keyboard's pen is shown on the paper only; it is not sent.
function paint(withCursor = true) {
  context.fillStyle = "#fff";
  context.fillRect(0, 0, paper.width, paper.height);
  if (picture) {
    const scale = Math.min(paper.width / picture.width, paper.height / picture.height);
    const [across, down] = [picture.width * scale, picture.height * scale];
    context.imageSmoothingEnabled = scale < 2;
    context.drawImage(picture, (paper.width - across) / 2, (paper.height - down) / 2, across, down);
  }
  context.lineCap = context.lineJoin = "round";
  for (const { points, width, colour } of strokes) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(...points[0]);
    for (const point of points.length > 1 ? points.slice(1) : points) context.lineTo(...point);
    context.stroke();
  }
  if (cursor && withCursor) {
    context.strokeStyle = "#1f5fd0";
    context.lineWidth = 3;
    context.beginPath();
    context.arc(...cursor, width.value / 2, 0, 7);
    context.stroke();
  }
  hint.hidden = !isEmpty() || cursor !== null;
  undo.disabled = isEmpty();
  eraser.disabled = !strokes.length;
}

function begin(point) {
  if (picture) clear();
  const erases = eraser.getAttribute("aria-pressed") === "true";
  const begun = { points: [point], width: Number(width.value), colour: erases ? "#fff" : "#000" };
  strokes.push(begun);
  return begun;
}

function place(event) {
  const box = paper.getBoundingClientRect();
  return [((event.clientX - box.left) * paper.width) / box.width, ((event.clientY - box.top) * paper.height) / box.height];
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || stroke) return;
  event.preventDefault();
  paper.focus({ preventScroll: true });
  paper.setPointerCapture(event.pointerId);
  cursor = null;
  stroke = begin(place(event));
  paint();
  changed();
});
paper.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const each of events.length ? events : [event]) stroke.points.push(place(each));
  paint();
  changed();
});
for (const name of ["pointerup", "pointercancel"]) {
  paper.addEventListener(name, () => {
    if (!stroke) return;
    stroke = null;
    changed();
  });
}

const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
paper.addEventListener("keydown", (event) => {
  const move = ARROWS[event.key];
  if (move) {
    const from = cursor || [paper.width / 2, paper.height / 2];
    cursor = [0, 1].map((axis) => Math.min(Math.max(from[axis] + move[axis], STEP), paper.width - STEP));
    if (event.shiftKey) {
      keyed ??= begin(from);
      keyed.points.push(cursor);
      changed();
    } else keyed = null;
    paint();
  } else if (event.key === "Backspace") takeBack();
  else if (event.key === "Delete") {
    clear();
    changed();
  } else return;
  event.preventDefault();
});
paper.addEventListener("keyup", (event) => {
  if (event.key === "Shift") keyed = null;
});
paper.addEventListener("blur", () => {
  cursor = keyed = null;
  paint();
});

function takeBack() {
  keyed = null;
  if (strokes.length) strokes.pop();
  else picture = null;
  if (isEmpty()) choose(pen);
  paint();
  changed();
}

function choose(tool) {
  for (const each of [pen, eraser]) each.setAttribute("aria-pressed", each === tool);
}

for (const tool of [pen, eraser]) tool.addEventListener("click", () => choose(tool));
undo.addEventListener("click", takeBack);
document.getElementById("clear").addEventListener("click", () => {
  clear();
  changed();
});
