"""Turn stored images into batches of a model's input, before the steps that need them."""
