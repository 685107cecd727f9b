"""Which backends every machine can run: TensorRT needs a GPU and compiled engines (see test/engine/tensorrt)."""

from exaone_ros.engine.backends import BACKENDS

HERE = tuple(name for name in BACKENDS if name != "tensorrt")
