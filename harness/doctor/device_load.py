"""Keep a device busy for a known time."""

import time

import torch

from bsrbench.harness.devices import Device

SIDE = 1024  # of the matrices whose product is the load
PRODUCTS = 50  # between two readings of the clock


def multiply_matrices(device: Device, least_seconds: float) -> float:
    """Multiply matrices for at least some seconds, and return the seconds."""
    matrix = torch.ones(SIDE, SIDE, device=device.torch_device)
    device.synchronise()
    began = time.perf_counter()
    while True:
        for _ in range(PRODUCTS):
            torch.mm(matrix, matrix)
        device.synchronise()
        if (seconds := time.perf_counter() - began) >= least_seconds:
            return seconds
