"""Message Batches over HTTP, and the lane that packs attempts into them."""
