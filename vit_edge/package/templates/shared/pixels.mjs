// From a decoded image to the model's input, to the grey level what Pillow makes of it.
// An image is {data, width, height}: rows of RGB or RGBA bytes, as ImageData has them.

const BITS = 22; // of fixed-point weights, as in Pillow's Resample.c

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  hamming: [1, (x) => {
    const a = Math.abs(x) * Math.PI;
    return a === 0 ? 1 : a >= Math.PI ? 0 : (Math.sin(a) / a) * (0.54 + 0.46 * Math.cos(a));
  }],
  bicubic: [2, (x) => {
    const a = Math.abs(x);
    return a < 1 ? (1.5 * a - 2.5) * a * a + 1 : a < 2 ? (((a - 5) * a + 8) * a - 4) * -0.5 : 0;
  }],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

/** Python's round: halves go to the even number. */
export function roundHalfEven(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/** The image turned upright by its EXIF orientation, 1 to 8. */
export function turned(image, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return image;
  const { data, width, height } = image;
  const channels = data.length / (width * height);
  const swapped = orientation >= 5;
  const [w, h] = swapped ? [height, width] : [width, height];
  const made = new Uint8Array(w * h * channels);
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const [u, v] = swapped ? [y, x] : [x, y];
      const mirrored = [2, 3, 7, 8].includes(orientation), flipped = [3, 4, 6, 7].includes(orientation);
      const from = ((flipped ? height - 1 - v : v) * width + (mirrored ? width - 1 - u : u)) * channels;
      for (let c = 0; c < channels; c++) made[(y * w + x) * channels + c] = data[from + c];
    }
  return { data: made, width: w, height: h };
}

/** Size after the resize; see "resize_mode" of vit-edge's preprocessing. */
export function resizedSize(width, height, spec) {
  const [rows, columns] = spec.resize;
  if (spec.resize_mode === "none") return [width, height];
  if (spec.resize_mode === "exact") return [columns, rows];
  if (spec.resize_mode === "cover") {
    const ratio = Math.min(height / rows, width / columns);
    return [roundHalfEven(width / ratio), roundHalfEven(height / ratio)];
  }
  if (width <= height) return [rows, Math.trunc((rows * height) / width)];
  return [Math.trunc((rows * width) / height), rows];
}

/** The image at another size with RGB bytes, antialiased as Pillow does it. */
export function resized(image, width, height, filter) {
  let { data } = image;
  let channels = data.length / (image.width * image.height), wide = image.width, high = image.height;
  if (filter === "nearest" && (width !== image.width || height !== image.height))
    return nearest(image, channels, width, height);
  // Between the two passes values are rounded, so their order counts; this is Pillow 13's.
  const downFirst = high > height && high - height > 2 * (wide - width);
  for (const isDown of [downFirst, !downFirst]) {
    if (isDown && height !== high) {
      data = down(data, wide, high, channels, height, filter);
      [high, channels] = [height, 3];
    } else if (!isDown && width !== wide) {
      data = across(data, wide, high, channels, width, filter);
      [wide, channels] = [width, 3];
    }
  }
  return { data: channels === 3 ? data : rgb(data), width, height };
}

/** The model's input as bytes (height, width, 3): resized, cropped at the centre, black outside. */
export function preprocessed(image, spec) {
  const { data, width, height } = image;
  if (!(width > 0 && height > 0) || ![3, 4].includes(data.length / (width * height)))
    throw new RangeError("an image needs data of 3 or 4 bytes for each of width * height pixels");
  const small = resized(image, ...resizedSize(width, height, spec), spec.interpolation);
  const left = offset(small.width, spec.width, spec.crop), top = offset(small.height, spec.height, spec.crop);
  if (!left && !top && small.width === spec.width && small.height === spec.height) return small.data;
  const made = new Uint8Array(3 * spec.width * spec.height);
  const first = Math.max(left, 0), last = Math.min(left + spec.width, small.width);
  for (let y = Math.max(top, 0); y < Math.min(top + spec.height, small.height); y++)
    made.set(small.data.subarray(3 * (y * small.width + first), 3 * (y * small.width + last)),
             3 * ((y - top) * spec.width + first - left));
  return made;
}

/** What of an image reaches the model, [left, top, right, bottom] in its pixels; beyond it where it is padded. */
export function seenBox(width, height, spec) {
  const [wide, high] = resizedSize(width, height, spec), x = width / wide, y = height / high;
  const left = offset(wide, spec.width, spec.crop), top = offset(high, spec.height, spec.crop);
  return [left * x, top * y, (left + spec.width) * x, (top + spec.height) * y];
}

/** float32 (3, height, width) of bytes (height, width, 3): (byte - 255 mean) / (255 std). */
export function normalized(bytes, spec) {
  const area = bytes.length / 3, made = new Float32Array(bytes.length);
  for (let c = 0; c < 3; c++) {
    const mean = Math.fround(255 * spec.mean[c]), deviation = Math.fround(255 * spec.std[c]);
    for (let i = 0; i < area; i++) made[c * area + i] = Math.fround(bytes[3 * i + c] - mean) / deviation;
  }
  return made;
}

function offset(size, crop, rule) {
  if (crop > size) {
    const padding = crop - size, half = Math.floor(padding / 2);
    return -(rule === "transformers" ? padding - half : half);
  }
  return rule === "torchvision" ? roundHalfEven((size - crop) / 2) : Math.floor((size - crop) / 2);
}

function rgb(data) {
  const made = new Uint8Array((data.length / 4) * 3);
  for (let i = 0, j = 0; i < data.length; i += 4, j += 3) {
    made[j] = data[i]; made[j + 1] = data[i + 1]; made[j + 2] = data[i + 2];
  }
  return made;
}

function nearest({ data, width, height }, channels, w, h) {
  const places = (size, count) => {
    const step = size / count, found = new Int32Array(count);
    for (let i = 0, at = step * 0.5; i < count; i++, at += step) found[i] = Math.min(Math.floor(at), size - 1);
    return found;
  };
  const columns = places(width, w), rows = places(height, h), made = new Uint8Array(3 * w * h);
  for (let y = 0, j = 0; y < h; y++)
    for (let x = 0; x < w; x++)
      for (let c = 0; c < 3; c++) made[j++] = data[(rows[y] * width + columns[x]) * channels + c];
  return { data: made, width: w, height: h };
}

// For each place of the output: where its inputs begin, how many they are, and their weights.
function weights(size, count, filter) {
  const [reach, weight] = FILTERS[filter];
  const scale = size / count, wide = Math.max(scale, 1), support = reach * wide;
  const most = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(count), counts = new Int32Array(count), all = new Int32Array(count * most);
  const row = new Float64Array(most);
  for (let i = 0; i < count; i++) {
    const centre = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const length = Math.min(Math.trunc(centre + support + 0.5), size) - start;
    let sum = 0;
    for (let k = 0; k < length; k++) sum += row[k] = weight((k + start - centre + 0.5) * (1 / wide));
    for (let k = 0; k < length; k++) {
      const value = (sum === 0 ? row[k] : row[k] / sum) * 2 ** BITS;
      all[i * most + k] = Math.trunc(value < 0 ? value - 0.5 : value + 0.5);
    }
    starts[i] = start;
    counts[i] = length;
  }
  return { starts, counts, all, most };
}

const clipped = (sum) => {
  const value = sum >> BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
};

function across(data, width, height, channels, w, filter) {
  const { starts, counts, all, most } = weights(width, w, filter), made = new Uint8Array(3 * w * height);
  for (let y = 0, j = 0; y < height; y++)
    for (let x = 0; x < w; x++, j += 3) {
      let r = 1 << (BITS - 1), g = r, b = r;
      let i = (y * width + starts[x]) * channels;
      for (let k = x * most, end = k + counts[x]; k < end; k++, i += channels) {
        r += data[i] * all[k]; g += data[i + 1] * all[k]; b += data[i + 2] * all[k];
      }
      made[j] = clipped(r); made[j + 1] = clipped(g); made[j + 2] = clipped(b);
    }
  return made;
}

function down(data, width, height, channels, h, filter) {
  const { starts, counts, all, most } = weights(height, h, filter), made = new Uint8Array(3 * width * h);
  for (let y = 0, j = 0; y < h; y++)
    for (let x = 0; x < width; x++, j += 3) {
      let r = 1 << (BITS - 1), g = r, b = r;
      let i = (starts[y] * width + x) * channels;
      for (let k = y * most, end = k + counts[y]; k < end; k++, i += channels * width) {
        r += data[i] * all[k]; g += data[i + 1] * all[k]; b += data[i + 2] * all[k];
      }
      made[j] = clipped(r); made[j + 1] = clipped(g); made[j + 2] = clipped(b);
    }
  return made;
}
