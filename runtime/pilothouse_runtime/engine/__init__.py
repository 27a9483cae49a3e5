"""Gets, checks, loads and runs the model: the only folder with torch."""

import os

# ONNX Runtime reads this when it is imported, be it by a user's own class: from 1.29 on it tells its maker of the
# models it loads, by a thread of its own, unless told not to. Said here it holds wherever models are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
