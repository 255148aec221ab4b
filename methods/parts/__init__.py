"""What several methods share; imports nothing of ours but the contract and the ViT."""
