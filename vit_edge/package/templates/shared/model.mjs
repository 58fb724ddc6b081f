// One model file of the package on onnxruntime, whichever build of it: from an image to its answers.
import { normalized, preprocessed } from "./pixels.mjs";
import { boxesOf, maskOf, sharesOf } from "./places.mjs";

const sigmoid = (z) => 1 / (1 + Math.exp(-z));

/** {"session.a": "1"} as onnxruntime's JavaScript API takes it: {session: {a: "1"}}. */
export function nested(options) {
  const made = {};
  for (const [key, value] of Object.entries(options)) {
    const parts = key.split("."), last = parts.pop();
    parts.reduce((inner, part) => (inner[part] ??= {}), made)[last] = value;
  }
  return made;
}

/** Scores of the numbers that a model gives for one image, by what they mean; in the order of the labels. */
export function scores(kind, values) {
  const numbers = Array.from(values);
  if (kind === "multi_label_logits") return numbers.map(sigmoid);
  if (kind === "binary_logit") return [sigmoid(-numbers[0]), sigmoid(numbers[0])];
  if (kind === "binary_probability") return [1 - numbers[0], numbers[0]];
  if (kind !== "single_label_logits") return numbers; // probabilities, or the values of a regression
  const most = numbers.reduce((a, b) => Math.max(a, b));
  const powers = numbers.map((z) => Math.exp(z - most)), sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

export class Model {
  /** `about` is model.json, `file` one of its files, `bytes` of that. */
  static async open(ort, about, file, bytes, providers) {
    const extra = nested(file.session_options);
    const options = { executionProviders: providers, graphOptimizationLevel: "all", extra };
    return new Model(ort, about, file, await ort.InferenceSession.create(bytes, options));
  }

  constructor(ort, about, file, session) {
    Object.assign(this, { ort, about, file, session });
  }

  /** The model's numbers for an input as the file takes it: a Uint8Array or Float32Array. */
  async run(values, output = this.file.output) {
    return (await this.outputs(values))[output].data;
  }

  /** The same of every output, by its name, as tensors. */
  async outputs(values) {
    const given = new this.ort.Tensor(this.file.input_type, values, this.file.input_shape);
    return this.session.run({ [this.file.input]: given });
  }

  /** The outputs for an image, all finite. */
  async answered(image) {
    const { preprocess } = this.about, bytes = preprocessed(image, preprocess);
    const made = await this.outputs(this.file.input_type === "uint8" ? bytes : normalized(bytes, preprocess));
    for (const { data } of Object.values(made))
      if (data instanceof Float32Array && !data.every(Number.isFinite))
        throw new RangeError("the model gave numbers that are not finite");
    return made;
  }

  /** [{label, index, score, box}] of a model of boxes, the surest first; see boxesOf. */
  async detect(image, threshold = 0.5) {
    const { gives, boxes: names } = this.about;
    if (gives !== "boxes") throw new TypeError(`this model gives ${gives ?? "classes"}, no boxes`);
    const made = await this.answered(image);
    return boxesOf(made[names.logits].data, made[names.boxes].data, image, this.about, threshold);
  }

  /** {mask: {data, width, height}, classes: [{label, index, share}]} of a model of maps; see maskOf. */
  async segment(image, threshold = 0.5) {
    const { gives, labels } = this.about, shape = this.file.outputs?.[this.file.output];
    if (gives !== "maps" || shape.length !== 3) throw new TypeError(`this model gives ${gives ?? "classes"}, no masks`);
    const map = (await this.answered(image))[this.file.output].data;
    const mask = maskOf(map, shape, image, this.about, threshold);
    return { mask, classes: sharesOf(mask, shape[0] > 1 ? labels : null) };
  }

  /** [{label, index, score}] of an image, the likeliest first; of a regression all values in their order. */
  async classify(image, top = 5) {
    if (!Number.isInteger(top) || top < 1) throw new RangeError(`top must be an integer from 1, got ${top}`);
    const { labels, output_kind } = this.about;
    const values = (await this.answered(image))[this.file.output].data;
    const found = scores(output_kind, values)
      .map((score, index) => ({ label: labels ? labels[index] : String(index), index, score }));
    if (output_kind === "regression") return found;
    const key = output_kind === "multi_label_logits" ? (each) => values[each.index] : (each) => each.score;
    return found.sort((a, b) => key(b) - key(a) || a.index - b.index).slice(0, top);
  }
}

/** Holds this place to the answers that were recorded when the bundle was built, and to Pillow's pixels.
 *
 * `read` gives the bytes of a file of the package as an ArrayBuffer; `open` a Model for a file of model.json.
 * Gives [{what, difference, tolerance, good}].
 */
export async function checked(about, read, open) {
  const found = [];
  for (const each of about.vectors) {
    const image = { data: new Uint8Array(await read(each.file)), width: each.width, height: each.height };
    const expected = new Uint8Array(await read(each.expected)), got = preprocessed(image, about.preprocess);
    found.push(judged(`preprocessing of ${each.file}`, got, expected, 1));
  }
  const { cases } = JSON.parse(new TextDecoder().decode(await read("golden/cases.json")));
  for (const file of about.files) {
    const model = await open(file);
    const mine = cases.filter((each) => each.model === file.file), groups = new Map();
    for (const each of mine) groups.set(each.arithmetic, [...(groups.get(each.arithmetic) ?? []), each]);
    // Which of the recorded arithmetics this place has is not known here, so one of them must hold throughout.
    let best = null;
    for (const [arithmetic, held] of groups) {
      const judgements = [];
      for (const each of held) {
        const raw = await read(each.input_file);
        const given = each.input_type === "uint8" ? new Uint8Array(raw) : new Float32Array(raw);
        const expected = new Float32Array(await read(each.output_file));
        const what = about.gives ? `${file.file} ${each.output} (${arithmetic})` : `${file.file} (${arithmetic})`;
        judgements.push(judged(what, await model.run(given, each.output), expected, each.tolerance));
      }
      if (best === null || judgements.every((each) => each.good)) best = judgements;
    }
    found.push(...(best ?? [{ what: `${file.file}: no case`, difference: NaN, tolerance: 0, good: false }]));
  }
  return found;
}

function judged(what, got, expected, tolerance) {
  let difference = got.length === expected.length ? 0 : Infinity;
  for (let i = 0; i < expected.length; i++) {
    const apart = Math.abs(got[i] - expected[i]);
    if (Number.isNaN(apart)) return { what, difference: apart, tolerance, good: false };
    difference = Math.max(difference, apart);
  }
  return { what, difference, tolerance, good: difference <= tolerance };
}
