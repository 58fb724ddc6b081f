// Answers each line of JSON on standard input with the preprocessed bytes: what tests compare with Pillow.
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const { preprocessed, turned } = await import(pathToFileURL(process.argv[2]));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { data, width, height, orientation, spec } = JSON.parse(line);
  const image = turned({ data: new Uint8Array(Buffer.from(data, "base64")), width, height }, orientation);
  const made = spec ? preprocessed(image, spec) : image.data;
  console.log(Buffer.from(made.buffer, made.byteOffset, made.length).toString("base64"));
}
