"""PyTorch with its compiler, on one thread of the CPU."""

import torch
import torchao
import transformers.modeling_outputs  # noqa: F401  what the exported programs answer is registered by it


def version():
    return f"PyTorch {torch.__version__}, torchao {torchao.__version__}"


def load(path, options):
    del options
    torch.set_num_threads(1)
    torch._inductor.config.freezing = True  # as torchao's documentation of x86-64 asks for
    run = torch.compile(torch.export.load(path).module())

    def answer(image):
        with torch.no_grad():
            return run(torch.from_numpy(image))[0].numpy()

    return answer
