// The page of `trackdl demo`: one model is asked, while one draws, and its answer is shown.
import { bars, input, insides, likelihood, make, prediction } from "./answer.js";
import * as paper from "./paper.js";

const at = (id) => document.getElementById(id);
const [chooser, form, message, spoken, file, examples] = ["model", "row", "message", "spoken", "file", "examples"].map(at);
const [inside, others] = ["inside", "others"].map(at);
const GONE = "The demo does not answer. Is `trackdl demo` still running?";
const PAUSE = 100; // milliseconds between two requests while one draws
const COMPUTING = 1000; // milliseconds until it is asked again whether something is still being computed
const ROWS = "This model takes a row of a table, not an image: it has no maps, and no training images are compared with the row.";
let models = [];
let model = null; // the chosen one
let given = null; // an image file, or the number of an example, that is asked about instead of the drawing
let decoded = null; // settles once the paper shows it
let sign = 0; // the chosen one of several
let answers = null;
let busy = false; // one request at a time; `again` asks for another after it
let again = false;
let asked = 0; // goes up when the answer on its way is no longer wanted
let timer = null;
let later = null;

function say(text, wrong = true) {
  message.textContent = text;
  message.className = wrong && text ? "wrong" : "";
}

function askSoon() {
  timer ??= setTimeout(() => {
    timer = null;
    ask();
  }, PAUSE);
  showBusy();
}

// Busy until the answer belongs to what the page shows, including the pause before a request.
const showBusy = () => at("answer").setAttribute("aria-busy", busy || timer !== null);

async function ask() {
  again = true;
  if (busy) return;
  busy = true;
  showBusy();
  try {
    while (again) {
      again = false;
      await askOnce();
    }
  } finally {
    busy = false;
    showBusy();
  }
}

async function askOnce() {
  await decoded;
  if (!model.columns && given === null && paper.isEmpty()) return forget();
  const mine = asked;
  let [found, problem] = [null, ""];
  try {
    const response = await (model.columns ? askRow() : askImage());
    found = await response.json();
    if (!response.ok) problem = found.message ?? GONE; // a proxy answers for a demo that is gone
  } catch {
    problem = GONE;
  }
  if (mine !== asked) return;
  if (!problem && found[0].problem && paper.isDrawing()) return; // half a stroke need not be a sign
  answers = problem ? null : found;
  show();
  if (problem) say(problem);
}

async function askImage() {
  const query = new URLSearchParams([["model", model.name]]);
  if (others.open) for (const other of rivals()) query.append("model", other.name);
  if (inside.open) query.append("inside", sign);
  if (typeof given === "number") query.append("example", given);
  const body = given instanceof Blob ? given : given === null ? await paper.blob() : "";
  return fetch(`/look?${query}`, { method: "POST", body, headers: { "content-type": "application/octet-stream" } });
}

function askRow() {
  const row = Object.fromEntries(model.columns.map(({ name }, index) => [name, form.elements[index].value || null]));
  const query = new URLSearchParams({ model: model.name });
  const body = JSON.stringify({ dataframe_records: [row] });
  return fetch(`/row?${query}`, { method: "POST", body, headers: { "content-type": "application/json" } });
}

// The image is sent again only when training images can be compared with it.
async function askOnceComputed() {
  if (!inside.open) return;
  const mine = later;
  const query = new URLSearchParams({ model: model.name });
  const computing = await fetch(`/computing?${query}`).then((response) => response.ok && response.json(), () => false);
  if (mine !== later) return; // another image was looked at meanwhile
  if (computing) later = setTimeout(askOnceComputed, COMPUTING);
  else ask(); // it also says if the demo does not answer
}

const rivals = () => models.filter((other) => other !== model && !other.problem && !other.columns);

function show() {
  const [first, ...rest] = answers ?? [{ signs: [] }];
  sign = Math.min(sign, Math.max((first.signs ?? []).length - 1, 0));
  say(first.problem ?? "");
  showSigns(first);
  const best = first.signs?.[sign];
  at("best").replaceChildren(...(best ? [prediction(best), bars(best)] : [make("p", invitation(), "idle")]));
  inside.hidden = !best;
  others.hidden = !best?.shown || !rivals().length;
  if (best?.inside) inside.lastElementChild.replaceChildren(...insides(best, first));
  if (model.columns) inside.lastElementChild.replaceChildren(make("p", ROWS, "note"));
  clearTimeout(later);
  later = best?.inside?.nearest.computing ? setTimeout(askOnceComputed, COMPUTING) : null;
  others.lastElementChild.replaceChildren(...rest.map(showOther));
  const text = (first.signs ?? []).map((one) => `${one.label}, ${likelihood(one)}${one.unfamiliar ? ", unfamiliar" : ""}`).join("; ");
  if (!paper.isDrawing() && !again && timer === null && spoken.textContent !== text) spoken.textContent = text;
}

function showSigns({ signs, size }) {
  const several = signs?.length > 1 ? signs : [];
  const focused = at("signs").contains(document.activeElement);
  at("signs").replaceChildren(
    ...several.map((one, index) => {
      const button = make("button");
      button.type = "button";
      button.setAttribute("aria-pressed", index === sign);
      button.append(input(one, size), make("span", one.label));
      button.addEventListener("click", () => {
        sign = index;
        show();
        if (inside.open) ask();
      });
      return button;
    }),
  );
  if (focused) at("signs").children[sign]?.focus();
}

function showOther(answer) {
  const line = make("p", undefined, "other");
  line.append(make("b", answer.name), " ");
  if (answer.problem) line.append(answer.problem);
  else line.append(answer.signs.map((one) => `${one.label}, ${likelihood(one)}${one.unfamiliar ? " (unfamiliar)" : ""}`).join("; "));
  return line;
}

function invitation() {
  if (model.columns) return "";
  const shown = model.classes.slice(0, 20).join(", ");
  return `The answer appears here while you draw. The model knows ${shown}${model.classes.length > 20 ? `, and ${model.classes.length - 20} more` : ""}.`;
}

function forget() {
  asked += 1;
  answers = given = null;
  sign = 0;
  show();
  spoken.textContent = "";
}

// An image file is sent unchanged; the paper only shows it, if the browser can decode it.
function take(image, number = null) {
  if (!model || model.columns) return;
  forget();
  const mine = (given = number ?? image);
  const show = (bitmap) => given === mine && paper.show(bitmap);
  decoded = createImageBitmap(image).then(show, () => show(null));
  ask();
}

paper.start(() => {
  if (!model) return;
  if (given !== null) forget();
  if (paper.isEmpty()) forget();
  else askSoon();
});

at("choose").addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  if (file.files.length) take(file.files[0]);
  file.value = "";
});
document.addEventListener("paste", (event) => {
  const item = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (item) take(item);
});
let over = 0;
const carriesFile = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
document.addEventListener("dragenter", (event) => {
  if (carriesFile(event)) at("dropping").hidden = !(over += 1);
});
document.addEventListener("dragleave", (event) => {
  if (carriesFile(event)) at("dropping").hidden = !(over = Math.max(0, over - 1));
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  at("dropping").hidden = true;
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});

const viewfinder = at("viewfinder");
const video = viewfinder.querySelector("video");
at("camera").addEventListener("click", async () => {
  // Browsers offer no camera to a page of another machine without HTTPS.
  if (!navigator.mediaDevices) return say("The browser offers the camera only to a page at localhost, or over HTTPS.");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const refused = error.name === "NotAllowedError";
    return say(refused ? "The browser was not allowed to use the camera." : "There is no camera that the browser can use.");
  }
  say("");
  viewfinder.showModal();
});
viewfinder.addEventListener("close", () => {
  for (const track of video.srcObject.getTracks()) track.stop();
  video.srcObject = null;
});
at("leave").addEventListener("click", () => viewfinder.close());
at("take").addEventListener("click", () => {
  if (!video.videoWidth) return;
  const still = make("canvas");
  [still.width, still.height] = [video.videoWidth, video.videoHeight];
  still.getContext("2d").drawImage(video, 0, 0);
  still.toBlob((image) => take(image), "image/png");
  viewfinder.close();
});

for (const details of [inside, others]) details.addEventListener("toggle", () => details.open && answers && ask());

form.addEventListener("input", askSoon);
form.addEventListener("submit", (event) => event.preventDefault());

function field(column) {
  const label = make("label");
  const { name, low, high, categories, missing, whole } = column;
  const ends = low !== null && high !== null ? `${low} to ${high}` : low !== null ? `from ${low}` : high !== null ? `to ${high}` : "";
  label.append(make("span", name), make("small", categories.length ? "" : `${ends}${missing.length ? " or empty" : ""}`));
  const control = make(categories.length ? "select" : "input");
  if (categories.length) {
    for (const category of [...categories, ...(missing.length ? [""] : [])]) control.append(new Option(category || "missing", category));
  } else {
    Object.assign(control, { type: "number", step: whole ? 1 : "any", min: low ?? "", max: high ?? "", required: !missing.length });
    if (!missing.length) control.value = Math.round(((low ?? 0) + (high ?? low ?? 0)) / 2);
  }
  label.append(control);
  return label;
}

function fill(row) {
  model.columns.forEach(({ name }, index) => {
    if (name in row) form.elements[index].value = row[name] ?? "";
  });
  ask();
}

function example(index) {
  const button = make("button", model.columns ? `Example ${index + 1}` : undefined);
  button.type = "button";
  if (model.columns) button.addEventListener("click", () => fill(model.examples[index]));
  else {
    const image = make("img");
    image.src = `/example?${new URLSearchParams({ model: model.name, number: index })}`;
    image.alt = `Example ${index + 1}`;
    button.append(image);
    button.addEventListener("click", () => take(image, index));
  }
  return button;
}

function choose() {
  const before = model;
  model = models.find((each) => each.name === chooser.value);
  const table = Boolean(model.columns);
  at("input").hidden = at("images").hidden = table;
  form.hidden = !table;
  at("hint").textContent = /^(digit|letter|garment)/.test(model.knows) ? `Draw a ${model.knows} here` : "Draw here";
  const count = table ? model.examples.length : model.examples;
  examples.replaceChildren(...(count ? [make("h2", "Examples"), ...[...Array(count).keys()].map(example)] : []));
  if (table || before?.columns || typeof given === "number") {
    paper.clear();
    forget();
  }
  inside.lastElementChild.replaceChildren();
  const more = [model.version && `version ${model.version}`, model.score].filter(Boolean).join(", ");
  at("about").textContent = `The model is ${[model.name, more].filter(Boolean).join(" ")}. Nothing leaves this machine.`;
  if (table) {
    form.replaceChildren(...model.columns.map(field));
    fill(model.examples[0] ?? {});
  } else {
    asked += 1;
    ask();
  }
}

async function begin() {
  try {
    models = await (await fetch("/models")).json();
  } catch {
    return say(GONE);
  }
  const usable = models.filter((each) => !each.problem);
  for (const each of usable) {
    chooser.append(new Option(`${each.knows} – ${each.name}`, each.name));
  }
  for (const each of models.filter((one) => one.problem)) {
    at("problems").append(make("p", `${each.name} cannot be used: ${each.problem}`, "note"));
  }
  if (!usable.length) {
    at("input").hidden = at("images").hidden = true;
    return say("No model is registered yet that can be used. `trackdl mnist` trains and registers the first, `trackdl main` all. Then start the demo again.", false);
  }
  at("choice").hidden = false;
  chooser.addEventListener("change", choose);
  choose();
}

begin();
