// What a model of boxes or maps found, laid over the image on a canvas.
import { UNSEEN } from "./places.mjs";

const hue = (index) => (index * 137.508) % 360; // neighbouring classes get colours far apart

/** The image with its boxes, the surest on top. */
export function drawBoxes(canvas, image, found) {
  const context = base(canvas, image), size = Math.max(image.width, image.height) / 40;
  context.lineWidth = Math.max(1, size / 4);
  context.font = `${Math.max(8, size)}px sans-serif`;
  for (const { label, index, score, box: [left, top, right, bottom] } of [...found].reverse()) {
    context.strokeStyle = context.fillStyle = `hsl(${hue(index)} 90% 45%)`;
    context.strokeRect(left, top, right - left, bottom - top);
    context.fillText(`${label} ${score.toFixed(2)}`, left, Math.max(top - 2, size));
  }
}

/** The image with its mask laid over it; what the model did not look at stays as it is. */
export function drawMask(canvas, image, mask) {
  const context = base(canvas, image), made = context.getImageData(0, 0, mask.width, mask.height), colours = new Map();
  for (let i = 0; i < mask.data.length; i++) {
    const index = mask.data[i];
    if (index === UNSEEN) continue;
    if (!colours.has(index)) colours.set(index, rgb(hue(index)));
    const colour = colours.get(index);
    for (let c = 0; c < 3; c++) made.data[4 * i + c] = (made.data[4 * i + c] + colour[c]) / 2;
  }
  context.putImageData(made, 0, 0);
}

function base(canvas, image) {
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.putImageData(new ImageData(new Uint8ClampedArray(image.data), image.width, image.height), 0, 0);
  return context;
}

function rgb(angle) {
  const part = (n) => { // hsl(angle 100% 50%)
    const k = (n + angle / 30) % 12;
    return 255 * (0.5 - 0.5 * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  };
  return [part(0), part(8), part(4)];
}
