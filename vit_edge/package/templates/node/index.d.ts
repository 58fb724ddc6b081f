/** One class and how probable the model finds it, or one value of a regression. */
export interface Prediction {
  label: string;
  index: number;
  score: number;
}

/** One object: its box is left, top, right and bottom in pixels of the image. */
export interface Detection extends Prediction {
  box: [number, number, number, number];
}

/** A mask of the image's size: the class of each pixel, row by row, -1 where the model did not look. */
export interface Segmentation {
  mask: { data: Int32Array; width: number; height: number };
  classes: { label: string; index: number; share: number }[];
}

/** Rows of RGB or RGBA bytes from the top left. */
export interface Pixels {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

export interface Options {
  /** How many classes, 5 by default. */
  top?: number;
}

export interface PlaceOptions {
  /** Of boxes the least probability; of a single channel, above which a pixel counts; 0.5 by default. */
  threshold?: number;
}

export interface Check {
  what: string;
  difference: number;
  tolerance: number;
  good: boolean;
}

/** A path, the bytes of an image file, or decoded pixels. */
export type Source = string | Uint8Array | Pixels;

/** A model on one of the files; it has the one function of these that it is for. */
export interface Opened {
  classify(source: Source, options?: Options): Promise<Prediction[]>;
  detect(source: Source, options?: PlaceOptions): Promise<Detection[]>;
  segment(source: Source, options?: PlaceOptions): Promise<Segmentation>;
}

export const labels: string[] | null;
export const gives: "boxes" | "maps" | null;
export function classify(source: Source, options?: Options): Promise<Prediction[]>;
export function detect(source: Source, options?: PlaceOptions): Promise<Detection[]>;
export function segment(source: Source, options?: PlaceOptions): Promise<Segmentation>;
export function open(options?: { file?: "float" | "int8" }): Promise<Opened>;
export function decoded(source: Source): Promise<Pixels>;
export function check(): Promise<Check[]>;
