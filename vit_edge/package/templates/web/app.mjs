import { about, check, decoded, open } from "./classifier.mjs";
import { drawBoxes, drawMask } from "./drawn.mjs";

const get = (id) => document.getElementById(id);
const state = get("state"), answers = get("answers");
const MOST = 12; // answers that are listed of a model of boxes or maps
// What is asked of the model; gives the rows of the list, and how to draw what lies on the image.
const asked = {
  boxes: async (model, image) => {
    const found = await model.detect(image);
    return { rows: found.slice(0, MOST), draw: () => drawBoxes(get("overlay"), image, found) };
  },
  maps: async (model, image) => {
    const { mask, classes } = await model.segment(image);
    const rows = classes.slice(0, MOST).map(({ label, share }) => ({ label, score: share }));
    return { rows, draw: () => drawMask(get("overlay"), image, mask) };
  },
}[about.gives] ?? (async (model, image) => ({ rows: await model.classify(image, 5), draw: () => {} }));
let newest = 0; // of several images on their way, the last one's answer is shown

const files = about.files.map((each) => each.name);
let chosen = about.default;
for (const name of files) {
  const label = document.createElement("label"), button = document.createElement("input");
  Object.assign(button, { type: "radio", name: "file", value: name, checked: name === chosen });
  button.addEventListener("change", () => { chosen = name; if (last) show(last.image, last.what); });
  const { size } = about.files.find((each) => each.name === name);
  label.append(button, ` ${name === "int8" ? "INT8" : "float"}, ${(size / 1e6).toFixed(1)} MB`);
  get("files").append(label);
}

let last = null;

async function show(image, what) {
  const mine = ++newest;
  last = { image, what };
  document.body.dataset.state = "busy";
  state.textContent = `Reading ${what} …`;
  try {
    const model = await open(chosen);
    const start = performance.now();
    const { rows: found, draw } = await asked(model, image);
    const ms = performance.now() - start;
    if (mine !== newest) return;
    draw();
    answers.replaceChildren(...found.map(bar));
    get("overlay").hidden = !about.gives;
    const first = found.length ? `${found[0].label} ${said(found[0].score)}` : "nothing found";
    tell(`${what}: ${first}, ${ms.toFixed(1)} ms with the ${chosen === "int8" ? "INT8" : "float"} model`);
    document.body.dataset.state = "done";
  } catch (error) {
    if (mine === newest) fail(error);
  }
}

// What a screen reader hears, and an eye finds without looking for it.
function tell(text) {
  state.textContent = text;
  state.scrollIntoView({ block: "nearest" });
}

const values = about.output_kind === "regression"; // and no probabilities
const said = (score) => (values ? score.toPrecision(5) : `${(100 * score).toFixed(1)} %`);

function bar({ label, score }) {
  const row = document.createElement("li"), name = document.createElement("span");
  const value = document.createElement("span");
  name.textContent = label;
  row.dataset.score = score;
  value.textContent = said(score);
  row.append(name, value);
  if (values) return row;
  const track = document.createElement("span"), filled = document.createElement("span");
  track.className = "track";
  track.setAttribute("aria-hidden", "true"); // the text beside it says the same
  filled.style.width = `${100 * score}%`;
  track.append(filled);
  name.after(track);
  return row;
}

function fail(error) {
  answers.replaceChildren();
  get("overlay").hidden = true;
  tell(`This does not work: ${error.message}`);
  document.body.dataset.state = "failed";
}

async function take(file) {
  if (!file) return;
  const mine = ++newest;
  document.body.dataset.state = "busy";
  try {
    const image = await decoded(file);
    if (mine !== newest) return;
    const picture = get("picture");
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(file);
    picture.alt = file.name;
    picture.hidden = false;
    await show(image, file.name);
  } catch {
    if (mine === newest) fail(new Error(`${file.name} is no image that this browser can read`));
  }
}

get("choose").addEventListener("change", (event) => take(event.target.files[0]));
get("photograph").addEventListener("change", (event) => take(event.target.files[0]));
for (const name of ["dragover", "drop"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));

get("check").addEventListener("click", async () => {
  document.body.dataset.state = "busy";
  state.textContent = "Checking …";
  try {
    const found = await check(), bad = found.filter((each) => !each.good);
    tell(bad.length
      ? `${bad.length} of ${found.length} checks failed: ${bad.map((each) => each.what).join(", ")}`
      : `All ${found.length} checks hold: this browser computes what was recorded.`);
    document.body.dataset.state = bad.length ? "failed" : "done";
  } catch (error) {
    fail(error);
  }
});

// A small model reads what is drawn: light on dark, as scanned characters are given to such models.
if (Math.max(about.preprocess.height, about.preprocess.width) <= 64) {
  get("drawing").hidden = false;
  const canvas = get("draw"), context = canvas.getContext("2d", { willReadFrequently: true });
  const clear = () => { context.fillStyle = "#000"; context.fillRect(0, 0, canvas.width, canvas.height); };
  clear();
  Object.assign(context, { strokeStyle: "#fff", lineWidth: canvas.width / 9, lineCap: "round", lineJoin: "round" });
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width,
            ((event.clientY - box.top) / box.height) * canvas.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    context.beginPath();
    context.moveTo(...place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    context.lineTo(...place(event));
    context.stroke();
  });
  canvas.addEventListener("pointerup", () => {
    get("picture").hidden = true; // of another image
    show(context.getImageData(0, 0, canvas.width, canvas.height), "your drawing");
  });
  get("clear").addEventListener("click", () => {
    clear();
    if (last?.what !== "your drawing") return;
    newest++;
    last = null;
    answers.replaceChildren();
    get("overlay").hidden = true;
    tell("Ready.");
    document.body.dataset.state = "ready";
  });
}

try {
  await open(chosen);
  state.textContent = "Ready.";
  document.body.dataset.state = "ready";
} catch (error) {
  fail(error);
}
