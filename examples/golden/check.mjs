// Holds the models of a bundle to its golden cases: `node check.mjs BUNDLE [exact|saturating] [PACKAGE]`.
// PACKAGE is onnxruntime-node (the default) or onnxruntime-web. See docs/golden.md.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const [bundle, arithmetic = "exact", name = "onnxruntime-node"] = process.argv.slice(2);
const ort = createRequire(path.resolve("node_modules", "x.js"))(name);
const bytes = (file) => new Uint8Array(fs.readFileSync(path.join(bundle, file))).buffer;
const nested = ([key, value]) => key.split(".").reduceRight((inner, part) => ({ [part]: inner }), value);
const { cases } = JSON.parse(fs.readFileSync(path.join(bundle, "golden/cases.json"), "utf8"));
const chosen = cases.filter((each) => ["any", arithmetic].includes(each.arithmetic));
let bad = chosen.length ? 0 : 1;
for (const each of chosen) {
  const session = Object.assign({}, ...Object.entries(each.session_options).map((entry) => nested(entry).session));
  const options = { executionProviders: [name === "onnxruntime-web" ? "wasm" : "cpu"], extra: { session } };
  const model = await ort.InferenceSession.create(new Uint8Array(bytes(each.model)), options);
  const Values = each.input_type === "uint8" ? Uint8Array : Float32Array;
  const given = new ort.Tensor(each.input_type, new Values(bytes(each.input_file)), each.input_shape);
  const found = (await model.run({ [each.input]: given }))[each.output].data;
  const expected = new Float32Array(bytes(each.output_file));
  const difference = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0);
  const good = found.length === expected.length && difference <= each.tolerance; // NaN fails, too
  console.log(good ? "ok  " : "FAIL", each.model, each.output, difference.toPrecision(3), each.tolerance);
  if (!good) bad = 1;
}
process.exit(bad);
