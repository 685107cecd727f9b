"""Sizes of a model that trains in seconds."""

from exaone_ros.training.model import Sizes

TINY = Sizes(
    vision_width=32, vision_mlp=32, vision_layers=2, vision_heads=2, vision_kv_heads=1, full_attention=(1,),
    text_width=32, text_mlp=32, text_layers=4, text_heads=2, text_kv_heads=1,
)  # fmt: skip
