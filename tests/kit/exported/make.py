"""Makes the .onnx files beside it. Needs torch and onnxscript, which the tests do not: `python make.py`.

Made with torch 2.13.0. `convolutional-*.onnx` are the same small network by the two exporters of PyTorch (the
old one with training mode on), `transformer.onnx` is an encoder layer with a mean over its sequence.
"""

from pathlib import Path

import onnx
import torch
from torch import nn

HERE = Path(__file__).parent


class Convolutional(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.2),
        )
        self.scores = nn.Linear(8 * 2 * 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(torch.flatten(self.maps(x), 1))


class Transformer(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.scores = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.scores(self.encoder(x).mean(1)), 1)


def main() -> None:
    torch.manual_seed(0)
    network, images = Convolutional(), torch.randn(4, 1, 8, 8)
    network(images)
    torch.onnx.export(
        network.train(),
        (images,),
        HERE / "convolutional-old.onnx",
        dynamo=False,
        training=torch.onnx.TrainingMode.TRAINING,
        do_constant_folding=False,
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes={"image": {0: "batch"}},
        opset_version=17,
    )
    torch.onnx.export(
        network.eval(), (images,), HERE / "convolutional-new.onnx", dynamo=True, external_data=False
    )
    sequence = torch.randn(4, 5, 8)
    shapes = ({0: torch.export.Dim("batch")},)
    model = Transformer().train()
    torch.onnx.export(
        model, (sequence,), HERE / "transformer.onnx", dynamo=True, dynamic_shapes=shapes, external_data=False
    )
    for path in HERE.glob("*.onnx"):
        _without_traces(path)


def _without_traces(path: Path) -> None:
    """Take out the stack traces that the exporter writes, with the paths of the machine that it ran on."""
    exported = onnx.load(path)
    for node in exported.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    onnx.save(exported, path)


if __name__ == "__main__":
    main()
