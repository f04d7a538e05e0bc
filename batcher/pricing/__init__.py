"""Money in integers: price books, rating, ceilings."""
