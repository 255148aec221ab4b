"""A suite of two methods and three seeds, of two steps each."""

TINY = """
description = "tiny"
seeds = [0, 1, 2]
[workload]
model = "test_vit"
image_size = 32
data = "digits"
batch = 2
[training]
steps = 2
learning_rate = 1e-3
[[methods]]
method = "full"
[[methods]]
method = "head"
"""
