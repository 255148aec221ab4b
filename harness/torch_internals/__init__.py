"""The only room for private names of torch, timm and torchvision, one function each."""
