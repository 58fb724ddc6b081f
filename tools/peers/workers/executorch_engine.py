"""ExecuTorch's runtime with XNNPACK, on one thread of the CPU."""

import importlib.metadata

import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime


def version():
    return f"ExecuTorch {importlib.metadata.version('executorch')}"


def load(path, options):
    del options
    portable_lib._unsafe_reset_threadpool(1)
    method = Runtime.get().load_program(path).load_method("forward")
    return lambda image: method.execute([torch.from_numpy(image)])[0].numpy()
