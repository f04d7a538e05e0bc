"""What a request is answered with: decided by the seed and the body alone."""
