"""EXAONE 4.5 itself: configuration, checkpoint reading, preprocessing, chat template, ONNX graphs. Knows no engine."""
