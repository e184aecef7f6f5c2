"""ONNX, by torch's exporter of graphs (torch.onnx.export with dynamo), compared with onnxruntime before it is kept."""

import importlib.util
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from issl_engine.weights.formats.base import BATCH, Exported, ExportFormat, example_images, untraceable_reported
from issl_engine.weights.open_encoder import OpenedEncoder
from issl_engine.weights.weights_file import WeightsError
from issl_engine.whole_file import write_whole

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-4, 1e-5
LARGEST_BYTES = 2**31 - 2**24
"""Of weights: protobuf's messages end at 2 GiB, and the graph takes some."""
NEEDED = ("onnx", "onnxscript", "onnxruntime")


class OnnxFormat(ExportFormat):
    """A .onnx file: input images, output features; any batch size, images of the encoder's crop."""

    name: Literal["onnx"] = "onnx"

    def write(self, opened: OpenedEncoder, out: Path, *, license_name: str) -> Exported:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise WeightsError(
                f"--format onnx needs {' and '.join(missing)}; install what is missing with: "
                "pip install 'issl-engine[export]'"
            )
        num_bytes = sum(tensor.nbytes for tensor in opened.encoder.state_dict().values())
        if num_bytes > LARGEST_BYTES:
            raise WeightsError(
                f"{opened.name}: its weights take {num_bytes / 2**30:.1f} GiB, and a .onnx file holds less than 2; "
                "take --format safetensors or torch_export"
            )
        model = _traced(opened)
        _compare(model, opened)
        write_whole(out, model)
        crop = opened.preprocessing.crop
        usage = (
            f"session = onnxruntime.InferenceSession({str(out)!r})\n"
            f"(features,) = session.run(None, {{'images': images}})  # float32 [n, 3, {crop}, {crop}], normalised → "
            f"[n, {opened.encoder.dim}]"
        )
        return Exported(files=(out,), usage=usage)


def _traced(opened: OpenedEncoder) -> bytes:
    with untraceable_reported(opened, "torch's exporter to ONNX"):
        program = torch.onnx.export(
            opened.encoder.eval(),
            (example_images(opened),),
            dynamo=True,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: BATCH},),
            verbose=False,
        )
    assert program is not None, "dynamo's exporter returns a program"
    proto = program.model_proto
    for key, value in (("source", opened.name), ("preprocessing", opened.preprocessing.describe())):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(proto.SerializeToString())


def _compare(model: bytes, opened: OpenedEncoder) -> None:
    """Another batch size than was traced. Raises WeightsError where the features differ."""
    import onnxruntime

    images_NCHW = example_images(opened, count=3)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (features_ND,) = session.run(None, {"images": images_NCHW.numpy()})
    with torch.no_grad():
        expected_ND = opened.encoder.eval()(images_NCHW).numpy()
    if not np.allclose(features_ND, expected_ND, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE):
        furthest = float(np.abs(features_ND - expected_ND).max())
        raise WeightsError(
            f"{opened.name}: onnxruntime's features differ from torch's by up to {furthest:.2g} (largest feature "
            f"{float(np.abs(expected_ND).max()):.2g}), more than {RELATIVE_TOLERANCE:g} of them: nothing was written; "
            "take --format torch_export"
        )
