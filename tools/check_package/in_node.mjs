// Runs a package for Node on the images of a job, and times its resize; prints JSON.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { performance } from "node:perf_hooks";
import { pathToFileURL } from "node:url";

const [folder, place] = process.argv.slice(2);
const inside = (name) => pathToFileURL(`${folder}/${name}`);
const job = JSON.parse(await readFile(place));
const app = await import(inside("index.mjs"));
const answers = {};
for (const file of ["float", "int8"]) {
  const model = await app.open({ file });
  answers[file] = [];
  for (const path of job.paths) answers[file].push(await model.classify(path, { top: job.top }));
}
const { preprocessed } = await import(inside("pixels.mjs"));
const about = JSON.parse(await readFile(inside("model.json")));
const [width, height] = job.size;
const data = new Uint8Array(3 * width * height).map((_, place) => (place * 2654435761) >>> 24);
const resize_ms = Array.from({ length: job.times }, () => {
  const begun = performance.now();
  preprocessed({ data, width, height }, about.preprocess);
  return performance.now() - begun;
});
const { version } = createRequire(inside("index.mjs"))("onnxruntime-node/package.json");
console.log(JSON.stringify({ answers, resize_ms, version: `onnxruntime-node ${version}`, node: process.versions.node }));
