"""The only package that uses private names of torch, timm and torchvision, one function each."""
