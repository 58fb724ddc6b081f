// The classifier of this site: model files, onnxruntime-web beside them, nothing from elsewhere.
import * as ort from "./ort/ort.wasm.min.mjs";
import { checked, Model } from "./model.mjs";

ort.env.wasm.numThreads = 1; // more need COOP and COEP headers, see README.md
ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;

const fetched = async (name) => {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} cannot be fetched (${answer.status})`);
  return answer.arrayBuffer();
};

export const about = JSON.parse(new TextDecoder().decode(await fetched("model.json")));

const opened = new Map();

/** The Model of a file of model.json, by its name; loaded once. */
export function open(name) {
  const file = about.files.find((each) => each.name === name);
  if (!opened.has(name))
    opened.set(name, fetched(file.file).then((data) => Model.open(ort, about, file, new Uint8Array(data), ["wasm"])));
  return opened.get(name);
}

/** Decoded pixels of a file, upright; no colour management, as in training. */
export async function decoded(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Holds this browser to the recorded answers: [{what, difference, tolerance, good}]. */
export const check = () => checked(about, fetched, (file) => open(file.name));
