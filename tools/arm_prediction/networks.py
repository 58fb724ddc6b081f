"""Networks whose latency on boards was published for ncnn, as text that ncnn reads.

ResNet-18 and ResNet-50 (He et al. 2015), MobileNet (Howard et al. 2017) and VGG-16 (Simonyan and Zisserman
2014) at 224 pixels, in the form of ncnn's own benchmark: ReLU is part of a float convolution, apart from an
INT8 one.
"""

from collections import Counter
from collections.abc import Callable

_MAGIC = 7767517
_INPUT = "data"
_EXPANSION = 4  # of a bottleneck's last convolution


class _Network:
    """Layers in order; what several of them take is copied by a layer Split, as ncnn wants it."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self._layers: list[tuple[str, list[str], str, str]] = [("Input", [], _INPUT, "0=224 1=224 2=3")]

    def add(self, kind: str, inputs: list[str], options: str) -> str:
        """Another layer; the name of its output."""
        output = f"t{len(self._layers)}"
        self._layers.append((kind, inputs, output, options))
        return output

    def convolution(
        self, source: str, channels: tuple[int, int], kernel: int, stride: int = 1, relu: bool = True
    ) -> str:
        """A convolution that keeps the size but for its stride; the name of its output."""
        weights = channels[0] * channels[1] * kernel**2
        options = f"0={channels[1]} 1={kernel} 2=1 3={stride} 4={kernel // 2} 5=1 6={weights}"
        return self._convolved("Convolution", source, options + (" 8=2" if self.int8 else ""), relu)

    def depthwise(self, source: str, channels: int, stride: int) -> str:
        """A 3x3 convolution of each channel alone; the name of its output."""
        options = f"0={channels} 1=3 2=1 3={stride} 4=1 5=1 6={9 * channels} 7={channels}"
        return self._convolved("ConvolutionDepthWise", source, options + (" 8=1" if self.int8 else ""), True)

    def dense(self, source: str, channels: tuple[int, int], relu: bool, int8: bool) -> str:
        """A fully connected layer; the name of its output."""
        options = f"0={channels[1]} 1=1 2={channels[0] * channels[1]}"
        if not int8:
            return self.add("InnerProduct", [source], options + (" 9=1" if relu else ""))
        made = self.add("InnerProduct", [source], options + " 8=2")
        return self.add("ReLU", [made], "") if relu else made

    def _convolved(self, kind: str, source: str, options: str, relu: bool) -> str:
        if not self.int8:
            return self.add(kind, [source], options + (" 9=1" if relu else ""))
        made = self.add(kind, [source], options)
        return self.add("ReLU", [made], "") if relu else made

    def text(self) -> str:
        """As ncnn reads it; the last layer's output is the network's."""
        uses = Counter(name for _, inputs, _, _ in self._layers for name in inputs)
        taken: Counter[str] = Counter()
        lines: list[str] = []
        tensors = 0
        for kind, inputs, output, options in self._layers:
            names = []
            for name in inputs:
                names.append(f"{name}_{taken[name]}" if uses[name] > 1 else name)
                taken[name] += 1
            lines.append(f"{kind} n{len(lines)} {len(names)} 1 {' '.join([*names, output])} {options}")
            tensors += 1
            if uses[output] > 1:
                copies = [f"{output}_{i}" for i in range(uses[output])]
                lines.append(f"Split n{len(lines)} 1 {len(copies)} {output} {' '.join(copies)}")
                tensors += len(copies)
        return "\n".join([str(_MAGIC), f"{len(lines)} {tensors}", *lines]) + "\n"

    def classified(self, source: str) -> str:
        """The text, with a last layer Softmax."""
        self.add("Softmax", [source], "0=0 1=1")
        return self.text()


def _stem(net: _Network) -> str:
    first = net.convolution(_INPUT, (3, 64), 7, 2)
    return net.add("Pooling", [first], "0=0 1=3 2=2 3=0 4=0")


def _added(net: _Network, shortcut: str, made: str) -> str:
    return net.add("ReLU", [net.add("Eltwise", [shortcut, made], "0=1 -23301=0")], "")


def resnet18(int8: bool) -> str:
    """Two basic blocks in each of four stages."""
    net = _Network(int8)
    made, channels = _stem(net), 64
    for stage in range(4):
        width = 64 << stage
        for block in range(2):
            stride = 2 if stage and not block else 1
            plain = block > 0
            shortcut = made if plain else net.convolution(made, (channels, width), 1, stride, relu=False)
            inner = net.convolution(made, (channels, width), 3, stride)
            made = _added(net, shortcut, net.convolution(inner, (width, width), 3, relu=False))
            channels = width
    return _averaged(net, made, channels)


def resnet50(int8: bool) -> str:
    """Three, four, six and three bottlenecks; the first convolution of a stage has its stride."""
    net = _Network(int8)
    made, channels = _stem(net), 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        wide = _EXPANSION * width
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            shortcut = made if block else net.convolution(made, (channels, wide), 1, stride, relu=False)
            inner = net.convolution(made, (channels, width), 1, stride)
            inner = net.convolution(inner, (width, width), 3)
            made = _added(net, shortcut, net.convolution(inner, (width, wide), 1, relu=False))
            channels = wide
    return _averaged(net, made, channels)


def _averaged(net: _Network, made: str, channels: int) -> str:
    made = net.add("Pooling", [made], "0=1 1=7 2=1 3=0 4=0")
    return net.classified(net.dense(made, (channels, 1000), relu=False, int8=False))


def mobilenet(int8: bool) -> str:
    """Thirteen pairs of a depthwise and a pointwise convolution."""
    net = _Network(int8)
    made, channels = net.convolution(_INPUT, (3, 32), 3, 2), 32
    pairs = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for width, stride in pairs:
        made = net.depthwise(made, channels, stride)
        made, channels = net.convolution(made, (channels, width), 1), width
    made = net.add("Pooling", [made], "0=1 1=0 2=1 3=0 4=1")
    return net.classified(net.convolution(made, (channels, 1000), 1, relu=False))


def vgg16(int8: bool) -> str:
    """Thirteen convolutions and three fully connected layers."""
    net = _Network(int8)
    made, channels = _INPUT, 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            made, channels = net.convolution(made, (channels, width), 3), width
        made = net.add("Pooling", [made], "0=0 1=2 2=2 3=0 4=0")
    made = net.dense(made, (25088, 4096), relu=True, int8=int8)
    made = net.dense(made, (4096, 4096), relu=True, int8=int8)
    return net.classified(net.dense(made, (4096, 1000), relu=False, int8=int8))


NETWORKS: dict[str, Callable[[bool], str]] = {
    "ResNet-18": resnet18,
    "ResNet-50": resnet50,
    "MobileNet": mobilenet,
    "VGG-16": vgg16,
}
LARGEST_WEIGHTS = 600_000_000  # bytes that hold those of any of these networks as float32
