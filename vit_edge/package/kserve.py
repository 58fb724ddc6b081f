"""What KServe needs beside a model repository: the resource that has Triton serve it."""

import re

MOST_NAME = 63  # characters, as names of services in Kubernetes have

# https://kserve.github.io/website/docs/reference/crd-api, v1beta1
_SERVICE = """\
# The models/ folder has to lie where storageUri says: on a volume claim (pvc://CLAIM/FOLDER), or in s3:// or gs://.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    model:
      modelFormat:
        name: triton
      protocolVersion: v2
      storageUri: pvc://models/{name}
      resources:
        requests:
          cpu: "1"
          memory: 1Gi
        limits:
          memory: 2Gi
"""


def service(source: str) -> str:
    """`inference-service.yaml`: one of Triton's instances, on the CPU.

    Args:
        source: the checkpoint's name.
    """
    return _SERVICE.format(name=service_name(source))


def service_name(source: str) -> str:
    """A name that Kubernetes takes: letters, digits and hyphens."""
    plain = re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-")
    return f"vit-edge-{plain or 'model'}"[:MOST_NAME].rstrip("-")
