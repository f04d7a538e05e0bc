"""Commands about money: what runs will cost, cost elsewhere, or were billed at."""
