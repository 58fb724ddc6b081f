// Opens a bundle in transformers.js as its pages show it, and runs it on the images of a job; prints JSON.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, bundle, place] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${modules}/`));
const { env, pipeline } = await import(pathToFileURL(require.resolve("@huggingface/transformers")));
env.allowRemoteModels = false;
env.localModelPath = dirname(bundle);
const job = JSON.parse(await readFile(place));
const answers = {};
for (const [file, dtype] of [["float", "fp32"], ["int8", "q8"]]) {
  const classify = await pipeline("image-classification", basename(bundle), { dtype, device: "cpu" });
  answers[file] = [];
  for (const path of job.paths) answers[file].push(await classify(path, { top_k: job.top }));
  await classify.dispose();
}
console.log(JSON.stringify({ answers, version: `transformers.js ${env.version}`, node: process.versions.node }));
