"""What a run will do, decided and told before it begins."""
