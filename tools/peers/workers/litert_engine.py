"""LiteRT's interpreter with XNNPACK, on one thread of the CPU."""

import importlib.metadata

from ai_edge_litert.interpreter import Interpreter


def version():
    return f"LiteRT {importlib.metadata.version('ai-edge-litert')}"


def load(path, options):
    del options
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(image):
        interpreter.set_tensor(given, image)
        interpreter.invoke()
        return interpreter.get_tensor(answer)

    return run
