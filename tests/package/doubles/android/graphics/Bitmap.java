package android.graphics;

/** Stands for Android's: opaque colours, one int each. */
public final class Bitmap {
  private final byte[] rgb;
  private final int width, height;

  public Bitmap(byte[] rgb, int width, int height) {
    this.rgb = rgb;
    this.width = width;
    this.height = height;
  }

  public int getWidth() {
    return width;
  }

  public int getHeight() {
    return height;
  }

  public void getPixels(int[] pixels, int offset, int stride, int x, int y, int wide, int high) {
    for (int row = 0; row < high; row++)
      for (int column = 0; column < wide; column++) {
        int at = 3 * ((y + row) * width + x + column);
        pixels[offset + row * stride + column] =
            0xff << 24 | (rgb[at] & 255) << 16 | (rgb[at + 1] & 255) << 8 | rgb[at + 2] & 255;
      }
  }
}
