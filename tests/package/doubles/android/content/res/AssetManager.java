package android.content.res;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/** Stands for Android's: assets are files of a folder. */
public final class AssetManager {
  private final Path folder;

  public AssetManager(Path folder) {
    this.folder = folder;
  }

  public InputStream open(String name) throws IOException {
    return Files.newInputStream(folder.resolve(name));
  }
}
