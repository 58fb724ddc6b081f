// A model that vit-edge packed for Node: `classify`, `detect` or `segment` of (path | Buffer | ImageData).
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { checked, Model } from "./model.mjs";
import { turned } from "./pixels.mjs";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // onnxruntime reads it when it is loaded
const { default: ort } = await import("onnxruntime-node");

const bytes = (name) => readFile(new URL(name, import.meta.url));
const about = JSON.parse(await bytes("model.json"));

/** One label per class, or null where the model has none. */
export const labels = about.labels;

/** What the model gives: "boxes" or "maps"; null of a classifier. */
export const gives = about.gives ?? null;

/** The model on one of the package's files, "float" or "int8", with the one of these that it is for. */
export async function open({ file = about.default } = {}) {
  const wanted = about.files.find((each) => each.name === file);
  if (!wanted) throw new RangeError(`no file is called ${file}; there are ${about.files.map((each) => each.name).join(", ")}`);
  const model = await loaded(wanted);
  if (gives === "boxes")
    return { detect: async (source, { threshold = 0.5 } = {}) => model.detect(await decoded(source), threshold) };
  if (gives === "maps")
    return { segment: async (source, { threshold = 0.5 } = {}) => model.segment(await decoded(source), threshold) };
  return { classify: async (source, { top = 5 } = {}) => model.classify(await decoded(source), top) };
}

let first; // the default file, opened once

async function asked(what, source, options) {
  first ??= open();
  const model = await first;
  if (!model[what]) throw new TypeError(`this model is for ${Object.keys(model)[0]}, not for ${what}`);
  return model[what](source, options);
}

/** The likeliest classes of an image: a path, a Buffer of a file, or {data, width, height} of RGB or RGBA. */
export const classify = (source, options) => asked("classify", source, options);

/** The objects on an image, the surest first, boxes in its pixels. */
export const detect = (source, options) => asked("detect", source, options);

/** The class of each pixel of an image, and the share of each class. */
export const segment = (source, options) => asked("segment", source, options);

/** Holds this machine to the recorded answers: [{what, difference, tolerance, good}]. */
export async function check() {
  const read = async (name) => new Uint8Array(await bytes(name)).buffer;
  return checked(about, read, loaded);
}

async function loaded(file) {
  const data = await bytes(file.file);
  if (createHash("sha256").update(data).digest("hex") !== file.sha256)
    throw new Error(`${file.file} is not the file that was packed (SHA-256 differs); pack it again`);
  return Model.open(ort, about, file, data, ["cpu"]);
}

/** {data, width, height} of an image, upright, as `classify` reads it. */
export async function decoded(source) {
  if (source?.data && source.width && source.height) return source;
  if (typeof source !== "string" && !(source instanceof Uint8Array))
    throw new TypeError("an image must be a path, a Buffer, or {data, width, height}");
  const { default: sharp } = await import("sharp");
  const data = typeof source === "string" ? await readFile(source) : source;
  const name = typeof source === "string" ? source : "the image";
  try {
    // No colour management and no blending, as in training.
    const image = sharp(data, { ignoreIcc: true, limitInputPixels: 1e8, failOn: "error" });
    const { orientation = 1, space } = await image.metadata();
    if (space === "cmyk") throw new Error("its colours are CMYK; save it as RGB");
    const { data: pixels, info } = await image.removeAlpha().toColourspace("srgb").raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    return turned({ data: pixels, width: info.width, height: info.height }, orientation);
  } catch (error) {
    throw new Error(`${name} cannot be decoded (${error.message})`, { cause: error });
  }
}
