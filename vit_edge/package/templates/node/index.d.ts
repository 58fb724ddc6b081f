/** One class and how probable the model finds it, or one value of a regression. */
export interface Prediction {
  label: string;
  index: number;
  score: number;
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

export interface Check {
  what: string;
  difference: number;
  tolerance: number;
  good: boolean;
}

/** A path, the bytes of an image file, or decoded pixels. */
export type Source = string | Uint8Array | Pixels;

export const labels: string[] | null;
export function classify(source: Source, options?: Options): Promise<Prediction[]>;
export function open(options?: { file?: "float" | "int8" }): Promise<{
  classify(source: Source, options?: Options): Promise<Prediction[]>;
}>;
export function decoded(source: Source): Promise<Pixels>;
export function check(): Promise<Check[]>;
