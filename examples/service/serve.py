"""A model as an HTTP service: onnxruntime and Pillow, no torch. POST an image, get the classes with their probabilities.

cnncodes export out --to onnx -o model.onnx
python serve.py model.onnx 8000
curl --data-binary @photo.jpg http://127.0.0.1:8000
"""

from __future__ import annotations

import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

LARGEST = 20_000_000  # bytes of a request; Pillow itself refuses pictures of very many pixels
LONGEST = 20


class Model:
    """The exported model, with what its file says of preparing images."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path)
        stored = self.session.get_modelmeta().custom_metadata_map
        self.classes, self.record = json.loads(stored["classes"]), json.loads(stored["preprocessing"])
        if self.record["fit"] != "shorter" or self.record["interpolation"] == "bilinear-point":
            raise SystemExit("this service resizes as torchvision does; this model wants another way")

    def predict(self, content: bytes) -> dict[str, float]:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
        short, crop = min(image.size), self.record["crop"]
        if max(image.size) > LONGEST * short:
            raise ValueError(f"the picture is more than {LONGEST} times as long as wide")
        size = [int(self.record["resize"] * side / short) for side in image.size]
        image = image.resize(size, Image.Resampling[self.record["interpolation"].upper()])
        left, top = (round((side - crop) / 2) for side in size)
        pixels = np.asarray(image.crop((left, top, left + crop, top + crop)))[None]
        (odds,) = self.session.run(None, {"images": pixels})[0].tolist()
        return dict(sorted(zip(self.classes, odds, strict=True), key=lambda pair: -pair[1]))


def serve(model: Model, port: int) -> ThreadingHTTPServer:
    """The server; ``serve_forever`` starts it. It listens on this machine only: put a proxy before it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            try:
                if not 0 < length <= LARGEST:
                    raise ValueError(f"an image of 1 to {LARGEST:,} bytes is expected")
                status, answer = 200, model.predict(self.rfile.read(length))
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                status, answer = 400, {"error": str(error)}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    serve(Model(sys.argv[1]), int(sys.argv[2])).serve_forever()
