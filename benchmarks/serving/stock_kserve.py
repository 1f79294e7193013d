"""The alternative that KServe's documentation shows: a custom model with torch in eager mode and Pillow."""

import argparse
import base64
import io
from typing import Any

import torch
from kserve import Model, ModelServer
from kserve.model_server import parser as kserve_parser
from PIL import Image
from torchvision import transforms

from components.train.network.backbones import create_backbone


class Counter(Model):
    """A backbone and a head of seven classes, as a user would write it."""

    def __init__(self, name: str, backbone: str) -> None:
        super().__init__(name)
        self.backbone = backbone
        self.load()

    def load(self) -> bool:
        """Build the network."""
        backbone = create_backbone(self.backbone, "random" if self.backbone == "resnet18" else "")
        self.model = torch.nn.Sequential(backbone.network, torch.nn.Linear(backbone.features, 7)).eval()
        self.transform = transforms.Compose(
            [
                transforms.Resize((224, 224)),
                transforms.ToTensor(),
                transforms.Normalize(backbone.mean, backbone.std),
            ]
        )
        self.ready = True
        return True

    @torch.no_grad()
    def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Count the items in one photo."""
        data = base64.b64decode(payload["instances"][0]["image"]["b64"])
        photo = self.transform(Image.open(io.BytesIO(data)).convert("RGB"))
        probabilities = torch.softmax(self.model(photo[None])[0], 0)
        return {"predictions": [{"count": int(probabilities[1:6].argmax()) + 1, "scores": probabilities.tolist()}]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve_parser])
    parser.add_argument("--backbone", required=True)
    arguments, _ = parser.parse_known_args()
    ModelServer().start([Counter("bin-counter", arguments.backbone)])
