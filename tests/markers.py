"""What older versions of other packages cannot do, though the library runs with them."""

import pytest
import torch

needs_right_compiler = pytest.mark.skipif(
    torch.__version__ < (2, 12), reason="torch.compile is right from PyTorch 2.12 on"
)
needs_working_onnx = pytest.mark.skipif(
    torch.__version__ < (2, 9), reason="PyTorch 2.8 does not export with onnxscript 0.6"
)
