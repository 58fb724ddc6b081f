// Holds this machine to the recorded answers: `npm run check`; or, with images, what is on them.
import { check, classify, detect, gives, segment } from "./index.mjs";

const told = {
  boxes: async (image) => ({ objects: await detect(image) }),
  maps: async (image) => ({ classes: (await segment(image)).classes }),
}[gives] ?? (async (image) => ({ predictions: await classify(image) }));

const images = process.argv.slice(2);
for (const image of images) console.log(JSON.stringify({ image, ...(await told(image)) }));
if (!images.length)
  for (const { what, difference, tolerance, good } of await check()) {
    const short = (value) => Number(value.toPrecision(2)).toString();
    console.log(good ? "ok  " : "FAIL", what, `differs by ${short(difference)}, of at most ${short(tolerance)}`);
    if (!good) process.exitCode = 1;
  }
