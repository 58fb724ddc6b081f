package ai.onnxruntime;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;

/** Stands for onnxruntime's: its bytes, little-endian. */
public class OnnxTensor extends OnnxTensorLike {
  final ByteBuffer bytes;
  final long[] shape;
  final OnnxJavaType type;

  OnnxTensor(ByteBuffer bytes, long[] shape, OnnxJavaType type) {
    this.bytes = bytes;
    this.shape = shape;
    this.type = type;
  }

  public static OnnxTensor createTensor(OrtEnvironment env, FloatBuffer data, long[] shape) throws OrtException {
    ByteBuffer bytes = ByteBuffer.allocate(4 * data.remaining()).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(data);
    return new OnnxTensor(bytes, shape, OnnxJavaType.FLOAT);
  }

  public static OnnxTensor createTensor(OrtEnvironment env, ByteBuffer data, long[] shape, OnnxJavaType type)
      throws OrtException {
    return new OnnxTensor(data, shape, type);
  }

  @Override
  public Object getValue() throws OrtException {
    throw new OrtException("nobody reads an input");
  }

  @Override
  public void close() {}
}
