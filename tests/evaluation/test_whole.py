"""A whole model for other programs answers as predict does."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import draw_photos

from cnncodes.codes import extract
from cnncodes.core.errors import ModelError, OptionError, OutputExistsError
from cnncodes.evaluation import export_model, predict
from cnncodes.heads import LinearModel, fit_linear
from cnncodes.images import crops_of, read_catalog
from cnncodes.images.decode import decode
from cnncodes.weights import load_weights


def answers(path, images):
    """Probabilities and metadata of an exported model, by the runtime of its format."""
    if path.suffix == ".onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        return session.run(None, {"images": images})[0], session.get_modelmeta().custom_metadata_map
    extra = {"classes": "", "preprocessing": ""}
    module = torch.jit.load(str(path), _extra_files=extra)
    return module(torch.from_numpy(images)).numpy(), {name: value.decode() for name, value in extra.items()}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
@pytest.mark.parametrize(
    ("network", "layer", "kind"),
    [("starter", "fc6", "svm"), ("torchvision/resnet18", "layer2", "softmax")],
    ids=["alexnet", "resnet18"],
)
def test_an_exported_model_answers_as_predict_does(tmp_path, network, layer, kind):
    weights = load_weights("starter") if network == "starter" else load_weights("random:0", network=network)
    if network != "starter":
        weights = replace(weights, preprocessing=replace(weights.preprocessing, resize=64, crop=64))
    photos = draw_photos(tmp_path / "photos", ("bird", "cat"), each=4)
    extract(read_catalog(photos), tmp_path / "codes.h5", weights, layers=layer)
    model = fit_linear(tmp_path / "codes.h5", layer=layer, kind=kind, C=1.0, split="none", jobs=1).model
    record = model.settings.preprocessing
    images = np.stack([crops_of(decode(file, record), record)[0] for file in read_catalog(photos).reader])
    predicted = predict(model, photos, weights=weights)
    wanted = [dict(zip(each.classes, each.probabilities, strict=True)) for each in predicted]
    for to in ("onnx", "torchscript"):
        path = export_model(model, tmp_path / f"model.{to}", to=to, weights=weights)
        found, metadata = answers(path, images)
        assert json.loads(metadata["classes"]) == ["bird", "cat"]
        assert json.loads(metadata["preprocessing"])["crop"] == record.crop
        np.testing.assert_allclose(found, [[odds["bird"], odds["cat"]] for odds in wanted], atol=2e-3)


def test_what_cannot_be_exported_is_said_and_nothing_is_left(tmp_path, small_weights):
    photos = draw_photos(tmp_path / "photos", ("bird", "cat"), each=4)
    extract(read_catalog(photos), tmp_path / "codes.h5", small_weights, layers="fc6")
    model = fit_linear(tmp_path / "codes.h5", layer="fc6", C=1.0, split="none", jobs=1).model
    with pytest.raises(OptionError, match="format 'onyx' is not known"):
        export_model(model, tmp_path / "a.onnx", to="onyx", weights=small_weights)
    averaged = LinearModel(model.head, replace(model.settings, crops="ten-mean"))
    with pytest.raises(ModelError, match="averages crops"):
        export_model(averaged, tmp_path / "a.onnx", weights=small_weights)
    with pytest.raises(ModelError, match="cannot be written as ONNX"):  # pooling 1 x 1 to 6 x 6
        export_model(model, tmp_path / "a.onnx", weights=small_weights)
    (tmp_path / "there.onnx").write_bytes(b"precious")
    with pytest.raises(OutputExistsError):
        export_model(model, tmp_path / "there.onnx", weights=small_weights)
    assert not (tmp_path / "a.onnx").exists() and (tmp_path / "there.onnx").read_bytes() == b"precious"
