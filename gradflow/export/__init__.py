"""Networks for other programs: ONNX models, and weights under the names of PyTorch."""

from gradflow.export.onnx_file import onnx_model, to_onnx
from gradflow.export.onnx_graph import OnnxGraph
from gradflow.export.torch_names import to_torch_state_dict

__all__ = ["OnnxGraph", "onnx_model", "to_onnx", "to_torch_state_dict"]
