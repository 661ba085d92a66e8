"""Hub to TensorFlow Lite: export_tflite.py HUB STAGED --report REPORT --target TARGET. See formats/target_formats/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.divergence import first_divergence
from converter.exporting import export_model
from converter.running.step_runner import run_export

if __name__ == "__main__":
    sys.exit(run_export("export_tflite", export_model, explain=first_divergence))
