// onnxruntime in Node: `node node.mjs PACKAGE MODULES JOB`, with PACKAGE onnxruntime-web (WebAssembly) or
// onnxruntime-node (native), below the folder MODULES.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { serve } from "./serve.mjs";

const [name, modules, job] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), "node_modules", "x.js"));
const ort = require(name);
const web = name === "onnxruntime-web";
if (web) ort.env.wasm.numThreads = 1;
const { version } = JSON.parse(fs.readFileSync(path.join(modules, "node_modules", name, "package.json"), "utf8"));
const read = (file) => {
  const data = fs.readFileSync(path.join(job, file));
  return data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
};
const write = (file, data) => fs.writeFileSync(path.join(job, file), data);
await serve(ort, `${name} ${version}, Node ${process.versions.node}`, [web ? "wasm" : "cpu"], read, write);
process.exit(0);
