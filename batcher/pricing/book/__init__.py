"""Price books: dated, sourced rates in data files; reading, importing and comparing them."""
