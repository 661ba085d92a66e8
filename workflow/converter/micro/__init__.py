"""TensorFlow Lite Micro: models as C arrays for microcontrollers, run here before they leave."""
