package ai.onnxruntime;

/** Stands for onnxruntime's: remembers whether telemetry was switched off before the first session. */
public class OrtEnvironment implements AutoCloseable {
  private static final OrtEnvironment ONLY = new OrtEnvironment();
  private boolean quiet;

  public static OrtEnvironment getEnvironment() {
    return ONLY;
  }

  public void setTelemetry(boolean sendTelemetry) throws OrtException {
    quiet = !sendTelemetry;
  }

  public OrtSession createSession(byte[] model, OrtSession.SessionOptions options) throws OrtException {
    if (!quiet) throw new OrtException("telemetry is on");
    return new OrtSession(model, options);
  }

  @Override
  public void close() {}
}
