"""Settings with which every tuner of peft fits the tiny model, whose blocks are 32 wide."""

SETTINGS = {
    "adalora": {"total_step": 100},
    "oft": {"oft_block_size": 8},
    "vblora": {"vector_length": 16, "num_vectors": 16},
    "c3a": {"block_size": 16},
    "randlora": {"r": 4},
    "fourierft": {"n_frequency": 50},
    "waveft": {"n_frequency": 50},
    "unilora": {"r": 4, "theta_d_length": 64},
    "road": {"group_size": 32},
    "shira": {"r": 4},
    "psoft": {"r": 8},
    "miss": {"r": 8},
}


def options_of(tuner):
    """Return the options of the method ``peft`` for a tuner on the tiny model."""
    settings = SETTINGS.get(tuner, {})
    return {"tuner": tuner} | ({"settings": settings} if settings else {})
