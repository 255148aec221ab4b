"""Colours of the figures."""

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#999999", "#000000")
BASELINE_COLOUR = "#D55E00"
OTHER_COLOUR = "#56B4E9"
EDGE_COLOUR = "#444444"
CATEGORY_COLOURS = {
    "weights": "#999999",
    "buffers": "#F0E442",
    "optimizer": "#CC79A7",
    "inputs": "#000000",
    "gradients": "#E69F00",
    "saved_activations": "#0072B2",
    "temporaries": "#56B4E9",
}
