// Answers that lie on the image: boxes and masks in its own pixels, as vit-edge's Detector and Segmenter give them.
import { seenBox } from "./pixels.mjs";

export const UNSEEN = -1; // in a mask, what the crop cut off

/** [{label, index, score, box: [left, top, right, bottom]}] in pixels of the image, the surest first.
 *
 * `logits` holds classes + 1 numbers for each box, the last of nothing; `boxes` centre, width and height in shares of what
 * the model sees.
 */
export function boxesOf(logits, boxes, image, about, threshold) {
  checkedThreshold(threshold);
  const { width, height } = image, [left, top, right, bottom] = seenBox(width, height, about.preprocess);
  const count = boxes.length / 4, classes = logits.length / count, found = [];
  for (let q = 0; q < count; q++) {
    const row = Array.from(logits.slice(q * classes, (q + 1) * classes)), most = Math.max(...row);
    const powers = row.map((z) => Math.exp(z - most)), sum = powers.reduce((a, b) => a + b);
    const shares = powers.slice(0, -1).map((power) => power / sum), score = Math.max(...shares);
    const [x, y, w, h] = boxes.slice(4 * q, 4 * q + 4);
    const across = (share) => Math.min(Math.max(share * (right - left) + left, 0), width);
    const down = (share) => Math.min(Math.max(share * (bottom - top) + top, 0), height);
    const box = [across(x - w / 2), down(y - h / 2), across(x + w / 2), down(y + h / 2)];
    if (score < threshold || box[2] <= box[0] || box[3] <= box[1]) continue;
    const index = shares.indexOf(score);
    found.push({ label: about.labels ? about.labels[index] : String(index), index, score, box });
  }
  return found.sort((a, b) => b.score - a.score); // stable: of equals the first comes first
}

/** {data: Int32Array of width * height, width, height}: the class of each pixel, UNSEEN where the model did not look.
 *
 * `map` is the model's (channels, rows, columns); of a single channel a pixel above `threshold` is 1, else 0.
 */
export function maskOf(map, [channels, rows, columns], image, about, threshold) {
  checkedThreshold(threshold, false);
  const { width, height } = image, [left, top, right, bottom] = seenBox(width, height, about.preprocess);
  const down = between(height, top, bottom, rows), across = between(width, left, right, columns);
  const data = new Int32Array(width * height).fill(UNSEEN), best = new Float32Array(width * height);
  const tall = new Float32Array(columns);
  for (let channel = 0; channel < channels; channel++) {
    const values = map.subarray(channel * rows * columns, (channel + 1) * rows * columns);
    for (let y = 0; y < height; y++) {
      if (!down.seen[y]) continue;
      const one = down.first[y] * columns, other = down.second[y] * columns;
      for (let x = 0; x < columns; x++) // in single precision, as Python has it
        tall[x] = mixed(values[one + x], values[other + x], down.share[y]);
      for (let x = 0; x < width; x++) {
        if (!across.seen[x]) continue;
        const at = y * width + x, score = mixed(tall[across.first[x]], tall[across.second[x]], across.share[x]);
        if (channels === 1) data[at] = score > threshold ? 1 : 0;
        else if (channel === 0 || score > best[at]) [data[at], best[at]] = [channel, score];
      }
    }
  }
  return { data, width, height };
}

/** [{label, index, share}] of a mask, the largest first. */
export function sharesOf(mask, labels) {
  const counts = new Map();
  for (const each of mask.data) if (each !== UNSEEN) counts.set(each, (counts.get(each) ?? 0) + 1);
  const total = [...counts.values()].reduce((a, b) => a + b, 0) || 1;
  return [...counts].sort(([i, a], [j, b]) => b - a || i - j)
    .map(([index, count]) => ({ label: labels ? labels[index] : String(index), index, share: count / total }));
}

const mixed = (one, other, share) => Math.fround(one + Math.fround(Math.fround(other - one) * share));

// Along one side: between which of the model's places each pixel lies, and how far from the first.
function between(pixels, start, stop, count) {
  const first = new Int32Array(pixels), second = new Int32Array(pixels), share = new Float32Array(pixels);
  const seen = new Uint8Array(pixels);
  for (let i = 0; i < pixels; i++) {
    const centre = i + 0.5;
    const at = Math.min(Math.max(((centre - start) / (stop - start)) * count - 0.5, 0), count - 1);
    first[i] = Math.floor(at);
    second[i] = Math.min(first[i] + 1, count - 1);
    share[i] = at - first[i];
    seen[i] = centre >= start && centre <= stop ? 1 : 0;
  }
  return { first, second, share, seen };
}

function checkedThreshold(threshold, ofProbability = true) {
  const fits = ofProbability ? threshold >= 0 && threshold <= 1 : Number.isFinite(threshold);
  if (!fits) throw new RangeError(`threshold must be ${ofProbability ? "0 to 1" : "a number"}, got ${threshold}`);
}
