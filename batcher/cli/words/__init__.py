"""How results are said to people."""
