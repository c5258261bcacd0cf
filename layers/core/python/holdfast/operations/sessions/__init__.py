"""What one run of a policy does, step by step."""
