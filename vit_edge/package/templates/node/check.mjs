// Holds this machine to the recorded answers: `npm run check`; or, with images, what is on them.
import { check, classify } from "./index.mjs";

const images = process.argv.slice(2);
for (const image of images) console.log(JSON.stringify({ image, predictions: await classify(image) }));
if (!images.length)
  for (const { what, difference, tolerance, good } of await check()) {
    const short = (value) => Number(value.toPrecision(2)).toString();
    console.log(good ? "ok  " : "FAIL", what, `differs by ${short(difference)}, of at most ${short(tolerance)}`);
    if (!good) process.exitCode = 1;
  }
