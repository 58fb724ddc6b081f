package ai.onnxruntime;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.StringJoiner;

/** Stands for onnxruntime's: each run is one of Python's onnxruntime, by the program in the property `run`. */
public class OrtSession implements AutoCloseable {
  private final byte[] model;
  private final String entries;

  OrtSession(byte[] model, SessionOptions options) {
    this.model = model;
    this.entries = options.entries.toString();
  }

  public Result run(Map<String, ? extends OnnxTensorLike> inputs, Set<String> outputs) throws OrtException {
    Map.Entry<String, ? extends OnnxTensorLike> given = inputs.entrySet().iterator().next();
    OnnxTensor tensor = (OnnxTensor) given.getValue();
    StringJoiner shape = new StringJoiner(",");
    for (long side : tensor.shape) shape.add(Long.toString(side));
    try {
      Path folder = Files.createTempDirectory("session");
      Files.write(folder.resolve("model"), model);
      Files.write(folder.resolve("input"), tensor.bytes.array());
      String[] words = System.getProperty("run").split("\n");
      Process process = new ProcessBuilder(
              words[0], words[1], folder.toString(), given.getKey(), shape.toString(), tensor.type.name(),
              outputs.iterator().next(), entries)
          .inheritIO().start();
      if (process.waitFor() != 0) throw new OrtException("Python's onnxruntime failed");
      ByteBuffer made = ByteBuffer.wrap(Files.readAllBytes(folder.resolve("output"))).order(ByteOrder.LITTLE_ENDIAN);
      float[] row = new float[made.remaining() / 4];
      made.asFloatBuffer().get(row);
      return new Result(new float[][] {row});
    } catch (IOException | InterruptedException error) {
      throw new OrtException(error.toString());
    }
  }

  @Override
  public void close() throws OrtException {}

  public static class SessionOptions implements AutoCloseable {
    private final StringJoiner entries = new StringJoiner(";");

    public void addConfigEntry(String key, String value) throws OrtException {
      entries.add(key + "=" + value);
    }

    @Override
    public void close() {}
  }

  public static class Result implements AutoCloseable {
    private final float[][] values;

    Result(float[][] values) {
      this.values = values;
    }

    public OnnxValue get(int index) {
      if (index != 0) throw new IndexOutOfBoundsException();
      return new OnnxValue() {
        @Override
        public Object getValue() {
          return values;
        }

        @Override
        public void close() {}
      };
    }

    @Override
    public void close() {}
  }
}
